import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ServiceError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { EnvelopeReader, envelope } from "./envelope.ts";

const limits = { maxBytes: 1000, encoding: undefined };

describe("EnvelopeReader", () => {
  test("finds the messages again however the bytes are cut", () => {
    const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
    fc.assert(
      fc.property(messages, fc.array(fc.integer({ min: 1, max: 50 })), (sent, cuts) => {
        const bytes = Buffer.concat(sent.map((message) => envelope(message, limits.maxBytes)));
        const reader = new EnvelopeReader(limits);
        const received: Uint8Array[] = [];
        for (let offset = 0, turn = 0; offset < bytes.length; turn += 1) {
          const end = offset + (cuts[turn % Math.max(1, cuts.length)] ?? bytes.length);
          received.push(...reader.push(bytes.subarray(offset, end)));
          offset = end;
        }
        reader.end();
        assert.deepEqual(
          received.map((message) => [...message]),
          sent.map((message) => [...message]),
        );
      }),
    );
  });

  test("answers garbage with an error of ours, and keeps no more than the limit", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 64 })), (chunks) => {
        const reader = new EnvelopeReader(limits);
        try {
          for (const chunk of chunks) {
            reader.push(Buffer.from(chunk));
          }
          reader.end();
        } catch (error) {
          assert(error instanceof ServiceError);
        }
      }),
    );
  });
});
