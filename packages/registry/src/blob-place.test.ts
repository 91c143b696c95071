import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { describe, test } from "node:test";
import { NotFoundError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { basicAuthorizer } from "./authorizer.ts";
import type { BlobPlace } from "./blob-place.ts";
import { RegistryClient } from "./client.ts";
import { type FakeHost, fakeHost, type SeenRequest, urlOn } from "./fake-host.ts";

const content = Buffer.from(Array.from({ length: 100_000 }, (_, index) => index % 251));
const digest = digestOf(content);

function open(host: FakeHost, password?: string): { place: BlobPlace } & Disposable {
  const client = new RegistryClient({ maxBlobsPerHost: 1 });
  const repository = client.repository({
    hosts: [host.host],
    repository: "library/app",
    ...(password && { authorizer: basicAuthorizer(host.host.host, "user", password) }),
  });
  const [place] = repository.placesOf(digest, ["ftp://no.good"]);
  assert(place);
  return { place, [Symbol.dispose]: () => client[Symbol.dispose]() };
}

interface Range {
  readonly first: number;
  readonly last: number;
}

/** The range that is asked for, from the beginning or the end. */
function rangeOf({ headers }: SeenRequest): Range | undefined {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(headers.range ?? "") ?? [];
  if (first === undefined) {
    return undefined;
  }
  const end = content.length - 1;
  return first === ""
    ? { first: Math.max(0, content.length - Number(last)), last: end }
    : { first: Number(first), last: Math.min(end, Number(last)) };
}

function send(response: ServerResponse, range: Range | undefined): void {
  if (range === undefined) {
    response.writeHead(200, { "content-length": String(content.length) }).end(content);
    return;
  }
  const { first, last } = range;
  response.writeHead(206, { "content-range": `bytes ${first}-${last}/${content.length}` });
  response.end(content.subarray(first, last + 1));
}

async function read(place: BlobPlace, offset: number, sizeBytes: number): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(place.read(offset, sizeBytes, undefined)));
}

async function requireContent(place: BlobPlace): Promise<void> {
  const { tail, blobBytes } = await place.readTail(1000, undefined);
  assert.equal(blobBytes, content.length);
  assert.ok(tail.equals(content.subarray(-1000)));
  for (const [offset, sizeBytes] of [
    [0, 1],
    [7, 50_000],
    [99_999, 1],
  ] as const) {
    assert.ok((await read(place, offset, sizeBytes)).equals(content.subarray(offset, offset + sizeBytes)));
  }
}

describe("a place of a blob", () => {
  test("gives end and size in one request, and parts in one each", async () => {
    await using host = await fakeHost((response, request) => send(response, rangeOf(request)));
    using opened = open(host);
    await requireContent(opened.place);
    assert.deepEqual(
      host.requests.map(({ headers }) => headers.range),
      ["bytes=-1000", "bytes=0-0", "bytes=7-50006", "bytes=99999-99999"],
    );
    assert.equal(opened.place.requests, 4);
    assert.equal(opened.place.sendsWhole, false);
  });

  test("gives the whole blob where that is shorter", async () => {
    await using host = await fakeHost((response, request) => send(response, rangeOf(request)));
    using opened = open(host);
    assert.ok((await opened.place.readTail(1_000_000, undefined)).tail.equals(content));
  });

  for (const status of [400, 416, 501]) {
    test(`learns the size where a range from the end is answered with ${status}`, async () => {
      await using host = await fakeHost((response, request) =>
        request.headers.range?.startsWith("bytes=-")
          ? response.writeHead(status).end()
          : send(response, rangeOf(request)),
      );
      using opened = open(host);
      await requireContent(opened.place);
    });
  }

  test("finds the part in the whole, and tells that it had to", async () => {
    await using host = await fakeHost((response) => send(response, undefined));
    using opened = open(host);
    await requireContent(opened.place);
    assert.equal(opened.place.sendsWhole, true);
  });

  test("remembers where it is sent on to, shows nothing of ours there, and asks anew when refused", async () => {
    let signature = 1;
    await using store = await fakeHost((response, request) =>
      request.line.endsWith(`?signature=${signature}`)
        ? send(response, rangeOf(request))
        : response.writeHead(403).end(),
    );
    await using host = await fakeHost((response, { headers }) => {
      if (headers.authorization === undefined) {
        response.writeHead(401, { "www-authenticate": "Basic" }).end();
      } else {
        response.writeHead(307, { location: urlOn(store, `/blob?signature=${signature}`).href }).end();
      }
    });
    using opened = open(host, "secret");
    await requireContent(opened.place);
    assert.equal(host.requests.length, 2);
    signature = 2;
    await requireContent(opened.place);
    assert.equal(host.requests.length, 3);
    assert.ok(store.requests.every(({ headers }) => headers.authorization === undefined));
  });

  for (const [name, headers] of [
    ["another range", { "content-range": "bytes 0-999/100000" }],
    ["no size", { "content-range": "bytes 99000-99999/*" }],
    ["no range", {}],
  ] as const) {
    test(`does not take ${name} for the end`, async () => {
      await using host = await fakeHost((response) => response.writeHead(206, headers).end("x".repeat(1000)));
      using opened = open(host);
      await assert.rejects(opened.place.readTail(1000, undefined), /another range/);
    });
  }

  test("does not take a short answer for all", async () => {
    await using host = await fakeHost((response) =>
      response.writeHead(206, { "content-range": "bytes 99000-99999/100000" }).end("x"),
    );
    using opened = open(host);
    await assert.rejects(opened.place.readTail(1000, undefined), /ended after 99001 bytes, want 100000/);
  });

  test("says what the host says", async () => {
    await using host = await fakeHost((response) => response.writeHead(404).end());
    using opened = open(host);
    await assert.rejects(opened.place.readTail(1000, undefined), NotFoundError);
    await assert.rejects(read(opened.place, 0, 1), NotFoundError);
  });
});
