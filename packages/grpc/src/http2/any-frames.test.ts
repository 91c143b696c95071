import assert from "node:assert/strict";
import { once } from "node:events";
import { Duplex } from "node:stream";
import { describe, test } from "node:test";
import {
  array,
  assert as assertProperty,
  asyncProperty,
  constantFrom,
  integer,
  oneof,
  tuple,
  uint8Array,
} from "fast-check";
import { Echo } from "../echo/service.ts";
import { echoing } from "../echo/serving.ts";
import { implement } from "../server/router.ts";
import { serveDuplex } from "../server/serve.ts";
import { callOf, frameOf, settingsOf, uint32Of } from "./hand-client.ts";
import { encodeFields } from "./hpack/encoder.ts";
import { ConnectionError, clientPreface } from "./protocol.ts";

/** Payloads that mean something, so that more is reached than the first check. */
const payload = oneof(
  uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  constantFrom(
    callOf("One"),
    callOf("Join"),
    callOf("Talk", "grpc-timeout", "1n"),
    encodeFields(["a", "b"]),
    Buffer.of(0, 0, 0, 0, 2, 10, 0),
    uint32Of(1),
    uint32Of(2 ** 31 - 1),
    Buffer.alloc(8),
    settingsOf([4, 3]).subarray(9),
  ),
);

const frames = array(
  tuple(
    integer({ min: 0, max: 11 }),
    oneof(constantFrom(0, 1, 4, 5), integer({ min: 0, max: 255 })),
    integer({ min: 0, max: 8 }),
    payload,
  ),
  { maxLength: 30 },
);

describe("a connection", () => {
  test("takes any frames, cut anywhere, without a mistake of its own", async () => {
    const mistakes: unknown[] = [];
    let breaches = 0;
    const observeConnection = (thrown: unknown) => {
      if (thrown instanceof ConnectionError) {
        breaches += 1;
      } else {
        mistakes.push(thrown);
      }
    };
    await assertProperty(
      asyncProperty(frames, integer({ min: 1, max: 100 }), async (all, step) => {
        const line = new Duplex({ read: () => undefined, write: (_bytes, _encoding, done) => done() });
        serveDuplex(line, { implementations: [implement(Echo, echoing)], observeConnection });
        const bytes = Buffer.concat([clientPreface, settingsOf(), ...all.map((frame) => frameOf(...frame))]);
        for (let offset = 0; offset < bytes.length; offset += step) {
          line.push(bytes.subarray(offset, offset + step));
        }
        await new Promise((resolve) => setImmediate(resolve));
        line.push(null);
        if (!line.closed) {
          line.destroy();
          await once(line, "close");
        }
      }),
      { numRuns: 2000 },
    );
    assert.deepEqual(mistakes, []);
    assert(breaches > 100);
  });
});
