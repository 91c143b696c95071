import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DataLossError, NotFoundError, UnavailableError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { RegistryClient } from "@oci-worker/registry/client";
import { type SampleRegistry, sampleRegistry, sendPart } from "../sample-registry.ts";
import { BlobReader } from "./blob-reader.ts";

const blob = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7) % 253));
const digest = digestOf(blob);
const patient = new AbortController().signal;

interface Circumstances {
  readonly beforeWait?: () => Promise<void>;
  readonly bodyIdleMs?: number;
}

/**
 * A reader of `blob` at `registries`, in a time that passes only while it waits.
 *
 * @param bodyIdleMs in true time: a body that stalls for so long is given up.
 */
function readerAt(
  registries: readonly SampleRegistry[],
  { beforeWait = async () => {}, bodyIdleMs = 60_000 }: Circumstances = {},
) {
  const client = new RegistryClient({ timeouts: { bodyIdleMs } });
  let clockMs = 0;
  const waits: number[] = [];
  const failures: string[] = [];
  let loads = 0;
  const reader = new BlobReader({
    load: async () => {
      loads += 1;
      return registries.flatMap(({ host }) =>
        client
          .repository({
            hosts: [{ scheme: "http", host, path: "/v2", capabilities: ["pull"] }],
            repository: "app",
          })
          .placesOf(digest),
      );
    },
    timeoutMs: 60_000,
    onFailure: (error) => failures.push(error.message),
    now: () => clockMs,
    delay: async (ms) => {
      waits.push(ms);
      clockMs += ms;
      await beforeWait();
    },
  });
  return { reader, waits, failures, loads: () => loads, [Symbol.dispose]: () => client[Symbol.dispose]() };
}

async function registryWithBlob(): Promise<SampleRegistry> {
  return await sampleRegistry({ [digest]: blob });
}

async function requireContent(reader: BlobReader): Promise<void> {
  const { tail, blobBytes } = await reader.readTail(1000, patient);
  assert.equal(blobBytes, blob.length);
  assert.ok(tail.equals(blob.subarray(-1000)));
  assert.ok((await reader.read(5000, 100_000, patient)).equals(blob.subarray(5000, 105_000)));
}

/** Each once, on the first request of it. */
const passing: readonly (readonly [string, SampleRegistry["misbehave"]])[] = [
  ["too many requests", (_, response) => response.writeHead(429, { "retry-after": "7" }).end() !== undefined],
  ["an error of its own", (_, response) => response.writeHead(503).end() !== undefined],
  ["a connection that breaks", (_, response) => response.destroy() !== undefined],
  [
    "a body that is cut off",
    ({ range }, response) => {
      const whole = response.end.bind(response);
      response.end = ((bytes: Buffer) => {
        response.write(bytes.subarray(0, bytes.length / 2), () => response.destroy());
        return response;
      }) as typeof whole;
      sendPart({ range }, response, blob);
      return true;
    },
  ],
  [
    "a body that stalls",
    ({ range }, response) => {
      response.end = ((bytes: Buffer) => {
        response.write(bytes.subarray(0, 10));
        return response;
      }) as typeof response.end;
      sendPart({ range }, response, blob);
      return true;
    },
  ],
];

describe("a blob reader", () => {
  for (const [name, misbehave] of passing) {
    test(`gets over ${name}`, async () => {
      await using registry = await registryWithBlob();
      const seen = new Set<string | undefined>();
      registry.misbehave = (request, response) => {
        const isFirst = !seen.has(request.range);
        seen.add(request.range);
        return isFirst && misbehave(request, response);
      };
      using opened = readerAt([registry], { bodyIdleMs: 200 });
      await requireContent(opened.reader);
      // A kept connection that breaks is not even a failure.
      assert.ok(opened.waits.length >= 1);
      assert.equal(opened.failures.length, opened.waits.length);
    });
  }

  test("does not ask again for what only came along", async () => {
    await using registry = await registryWithBlob();
    registry.misbehave = ({ range }, response) => {
      response.end = ((bytes: Buffer) => {
        response.write(bytes.subarray(0, 15_000), () => response.destroy());
        return response;
      }) as typeof response.end;
      sendPart({ range }, response, blob);
      return true;
    };
    using opened = readerAt([registry]);
    const told: string[] = [];
    const part = (offset: number, isExtra: boolean) => ({
      offset,
      sizeBytes: 10_000,
      isExtra: () => isExtra,
      take: (bytes: Buffer) => {
        assert.ok(bytes.equals(blob.subarray(offset, offset + 10_000)));
        told.push(`${offset} taken`);
      },
      fail: () => told.push(`${offset} failed`),
    });
    await opened.reader.fetch([part(0, false), part(10_000, true), part(20_000, true)], patient);
    assert.deepEqual(told, ["0 taken", "10000 failed", "20000 failed"]);
    assert.equal(registry.requests.length, 1);
  });

  test("waits as long as a server asks", async () => {
    await using registry = await registryWithBlob();
    let isFirst = true;
    registry.misbehave = (_, response) => {
      const isNow = isFirst;
      isFirst = false;
      return isNow && response.writeHead(429, { "retry-after": "7" }).end() !== undefined;
    };
    using opened = readerAt([registry]);
    await opened.reader.read(0, 10, patient);
    assert.deepEqual(opened.waits, [7000]);
  });

  test("does not wait for a server that asks for more than anybody wants to", async () => {
    await using registry = await registryWithBlob();
    registry.misbehave = (_, response) =>
      response.writeHead(429, { "retry-after": "3600" }).end() !== undefined;
    using opened = readerAt([registry]);
    await assert.rejects(opened.reader.read(0, 10, patient), UnavailableError);
    assert.deepEqual(opened.waits, []);
  });

  test("reads on when a registry comes back, and gives up in the end when not", async () => {
    await using registry = await registryWithBlob();
    await registry.die();
    using lost = readerAt([registry]);
    await assert.rejects(lost.reader.read(0, 10, patient), UnavailableError);
    const waited = lost.waits.reduce((sum, ms) => sum + ms, 0);
    assert.ok(waited > 50_000 && waited <= 60_000, `${waited}`);
    let waits = 0;
    const beforeWait = async () => {
      waits += 1;
      if (waits === 3) {
        await registry.revive();
      }
    };
    using opened = readerAt([registry], { beforeWait });
    await requireContent(opened.reader);
    assert.equal(waits, 3);
  });

  test("goes from a mirror that is down to the origin, and asks that first from then on", async () => {
    await using mirror = await registryWithBlob();
    await using origin = await registryWithBlob();
    mirror.misbehave = (_, response) => response.writeHead(500).end() !== undefined;
    using opened = readerAt([mirror, origin]);
    await requireContent(opened.reader);
    assert.equal(mirror.requests.length, 1);
    assert.equal(opened.reader.host, origin.host);
    assert.deepEqual(opened.waits, []);
  });

  test("goes from a mirror whose bytes are wrong to the next one, for those parts alone", async () => {
    await using mirror = await registryWithBlob();
    await using origin = await registryWithBlob();
    const wrong = Buffer.from(blob);
    wrong.fill(0, 1000, 1010);
    mirror.blobs.set(digest, wrong);
    using opened = readerAt([mirror, origin]);
    const taken: string[] = [];
    const parts = [0, 1000, 5000].map((offset) => ({
      offset,
      sizeBytes: 500,
      take: (bytes: Buffer, host: string) => {
        if (!bytes.equals(blob.subarray(offset, offset + 500))) {
          throw new DataLossError("wrong");
        }
        taken.push(`${offset} ${host === mirror.host ? "mirror" : "origin"}`);
      },
      fail: (error: Error) => assert.fail(error),
    }));
    await opened.reader.fetch(parts, patient);
    assert.deepEqual(taken, ["0 mirror", "5000 mirror", "1000 origin"]);
    assert.deepEqual(
      mirror.requests.map(({ range }) => range),
      ["bytes=0-5499"],
    );
  });

  test("fails what is wrong everywhere, after looking for other places", async () => {
    await using registry = await sampleRegistry({ [digest]: Buffer.alloc(blob.length) });
    using opened = readerAt([registry]);
    const results: string[] = [];
    const part = (offset: number) => ({
      offset,
      sizeBytes: 10,
      take: () => {
        if (offset === 0) {
          throw new DataLossError("is wrong");
        }
        results.push(`${offset} taken`);
      },
      fail: (error: Error) => void results.push(`${offset} ${error.message}`),
    });
    await opened.reader.fetch([part(0), part(100)], patient);
    assert.deepEqual(results, ["100 taken", "0 is wrong"]);
  });

  test("says that a blob is nowhere", async () => {
    await using registry = await sampleRegistry();
    using opened = readerAt([registry]);
    await assert.rejects(opened.reader.read(0, 10, patient), NotFoundError);
  });

  test("ends with the signal of whoever reads", async () => {
    await using registry = await registryWithBlob();
    registry.misbehave = () => true;
    using opened = readerAt([registry]);
    const leaving = new AbortController();
    const reading = opened.reader.read(0, 10, leaving.signal);
    leaving.abort(new Error("bye"));
    await assert.rejects(reading, /bye/);
  });
});
