import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { ServerResponse } from "node:http";
import { describe, test } from "node:test";
import {
  DataLossError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  PermissionDeniedError,
  ResourceExhaustedError,
  ServiceError,
  UnauthenticatedError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { ociIndex, ociManifest } from "@oci-worker/oci/media-type";
import { type AuthorizationQuery, type Authorizer, basicAuthorizer } from "./authorizer.ts";
import { RegistryClient, type RepositoryOptions } from "./client.ts";
import { type FakeHost, fakeHost, type SeenRequest, urlOn } from "./fake-host.ts";
import { TransientError } from "./http/errors.ts";
import { bytesBody } from "./http/request.ts";
import type { Retry } from "./retry.ts";

const manifest = Buffer.from('{"schemaVersion":2}');
const digest = digestOf(manifest);
const descriptor = { mediaType: ociManifest, digest, size: manifest.length };

/** Longer than what fits into the buffers of a connection, so that it comes in many pieces. */
const content = randomBytes(4 * 1024 * 1024);
const blob = { digest: digestOf(content), size: content.length };

type ErrorClass = new (...parameters: never[]) => ServiceError;

function fails(promise: Promise<unknown>, kind: ErrorClass, message: RegExp): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof ServiceError, String(error));
    assert.equal(error.constructor, kind, error.message);
    assert.match(error.message, message);
    return true;
  });
}

/** A repository on `hosts`, whose retries do not wait. */
function open(hosts: readonly FakeHost[], rest: Partial<RepositoryOptions> = {}) {
  const waits: number[] = [];
  const client = new RegistryClient({
    delay: (ms) => {
      waits.push(ms);
      return Promise.resolve();
    },
  });
  const repository = client.repository({
    hosts: hosts.map(({ host }) => host),
    repository: "library/app",
    ...rest,
  });
  return { repository, waits, [Symbol.dispose]: () => client[Symbol.dispose]() };
}

function sendManifest(response: ServerResponse, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(200, {
    "content-type": ociManifest,
    "content-length": String(manifest.length),
    "docker-content-digest": digest,
    ...headers,
  });
  response.end(manifest);
}

function sendError(response: ServerResponse, status: number, code = "CODE", headers = {}): void {
  const errors = [{ code, message: `${code} was the reason` }];
  response
    .writeHead(status, { "content-type": "application/json", ...headers })
    .end(JSON.stringify({ errors }));
}

/** Answers for a blob as the distribution spec wants it. */
function sendBlob(response: ServerResponse, { headers }: SeenRequest, bytes = content): void {
  const range = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? "");
  if (range === null) {
    response.writeHead(200, { "content-length": String(bytes.length) }).end(bytes);
    return;
  }
  const first = Number(range[1]);
  const last = range[2] ? Number(range[2]) : bytes.length - 1;
  response.writeHead(206, { "content-range": `bytes ${first}-${last}/${bytes.length}` });
  response.end(bytes.subarray(first, last + 1));
}

async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) {
    all.push(chunk);
  }
  return Buffer.concat(all);
}

describe("resolve", () => {
  test("asks without fetching", async () => {
    await using host = await fakeHost((response) => sendManifest(response));
    using open1 = open([host]);
    assert.deepEqual(await open1.repository.resolve({ tag: "3" }), descriptor);
    assert.deepEqual(host.lines, ["HEAD /v2/library/app/manifests/3"]);
    const accepted = String(host.requests[0]?.headers.accept).split(", ");
    assert.ok(accepted.includes(ociIndex) && accepted.includes(ociManifest));
    assert.match(String(host.requests[0]?.headers["user-agent"]), /^oci-worker\/\d+\.\d+\.\d+$/);
  });

  for (const [name, headers] of [
    ["says no digest", { "docker-content-digest": "" }],
    ["says a digest that we cannot verify", { "docker-content-digest": `sha512:${"0".repeat(128)}` }],
  ] as const) {
    test(`fetches and hashes where the host ${name}`, async () => {
      await using host = await fakeHost((response) => sendManifest(response, headers));
      using opened = open([host]);
      assert.deepEqual(await opened.repository.resolve({ tag: "3" }), descriptor);
      assert.deepEqual(host.lines, ["HEAD /v2/library/app/manifests/3", "GET /v2/library/app/manifests/3"]);
    });
  }

  test("fetches and hashes where the host does not know HEAD", async () => {
    await using host = await fakeHost((response, { line }) =>
      line.startsWith("HEAD") ? response.writeHead(405).end() : sendManifest(response),
    );
    using opened = open([host]);
    assert.deepEqual(await opened.repository.resolve({ tag: "3" }), descriptor);
  });

  test("asks for the digest where there are tag and digest, and believes no other one", async () => {
    await using host = await fakeHost((response) => sendManifest(response));
    using opened = open([host]);
    await opened.repository.resolve({ tag: "3", digest });
    assert.deepEqual(host.lines, [`HEAD /v2/library/app/manifests/${digest}`]);
    const other = digestOf("other");
    await fails(
      opened.repository.resolve({ digest: other }),
      DataLossError,
      /has digest sha256:.*, want sha256:/,
    );
  });

  test("asks the next host when one has it not, or fails", async () => {
    await using lacking = await fakeHost((response) => sendError(response, 404));
    await using refusing = await fakeHost((response) => sendError(response, 403));
    await using busy = await fakeHost((response) => sendError(response, 503));
    await using host = await fakeHost((response) => sendManifest(response));
    using opened = open([lacking, refusing, busy, host]);
    assert.deepEqual(await opened.repository.resolve({ tag: "3" }), descriptor);
    assert.deepEqual(opened.waits, []);
  });

  test("tells the first failure that says more than that it is not there", async () => {
    await using lacking = await fakeHost((response) => sendError(response, 404, "MANIFEST_UNKNOWN"));
    await using refusing = await fakeHost((response) =>
      response.writeHead(403).end('{"errors":[{"code":"DENIED","message":"no\\u0007pe"}]}'),
    );
    using both = open([lacking, refusing]);
    await fails(
      both.repository.fetchManifest(descriptor),
      PermissionDeniedError,
      /^Cannot fetch manifest sha256:\w+ of library\/app from 127\.0\.0\.1:\d+: it answered HTTP 403: DENIED: no pe$/,
    );
    using one = open([lacking, lacking]);
    await fails(one.repository.fetchManifest(descriptor), NotFoundError, /404: MANIFEST_UNKNOWN: /);
  });

  test("does not ask mirrors that lag behind for a tag", async () => {
    await using mirror = await fakeHost((response) => sendManifest(response));
    await using host = await fakeHost((response) => sendManifest(response));
    const lagging = { ...mirror.host, capabilities: ["pull"] as const, upstreamNamespace: "docker.io" };
    using opened = open([], { hosts: [lagging, host.host] });
    await opened.repository.resolve({ tag: "3" });
    assert.deepEqual([mirror.lines.length, host.lines.length], [0, 1]);
    await opened.repository.resolve({ digest });
    assert.deepEqual(mirror.lines, [`HEAD /v2/library/app/manifests/${digest}?ns=docker.io`]);
    using none = open([], { hosts: [lagging] });
    await fails(
      none.repository.resolve({ tag: "3" }),
      FailedPreconditionError,
      /no host is configured for resolve/,
    );
  });

  test("refuses what is no image document", async () => {
    const schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    await using host = await fakeHost((response) => sendManifest(response, { "content-type": schema1 }));
    using opened = open([host]);
    await fails(
      opened.repository.resolve({ tag: "3" }),
      InvalidArgumentError,
      /media type is .*v1\+prettyjws/,
    );
    await fails(opened.repository.resolve({}), InvalidArgumentError, /want a tag or a digest/).catch(
      (error) => {
        throw error;
      },
    );
  });

  test("sends the headers that are configured for a host", async () => {
    await using host = await fakeHost((response) => sendManifest(response));
    using opened = open([], { hosts: [{ ...host.host, headers: { "x-own": ["a", "b"] } }] });
    await opened.repository.resolve({ tag: "3" });
    assert.equal(host.requests[0]?.headers["x-own"], "a, b");
  });
});

describe("fetchManifest", () => {
  test("gives verified bytes", async () => {
    await using host = await fakeHost((response) => sendManifest(response));
    using opened = open([host]);
    assert.deepEqual(await opened.repository.fetchManifest(descriptor), manifest);
  });

  test("goes past a mirror that serves wrong bytes", async () => {
    await using mirror = await fakeHost((response) => response.end("x".repeat(manifest.length)));
    await using host = await fakeHost((response) => sendManifest(response));
    using both = open([mirror, host]);
    assert.deepEqual(await both.repository.fetchManifest(descriptor), manifest);
    using alone = open([mirror]);
    await fails(alone.repository.fetchManifest(descriptor), DataLossError, /has digest/);
    const short = { ...descriptor, size: 3 };
    await fails(alone.repository.fetchManifest(short), DataLossError, /has 19 bytes, want 3/);
  });

  test("reads no more than 8 MiB", async () => {
    await using host = await fakeHost((response) => {
      response.writeHead(200);
      const piece = Buffer.alloc(1024 * 1024);
      const more = () => {
        while (!response.destroyed && response.write(piece)) {
          // As much as the connection takes.
        }
      };
      response.on("drain", more);
      more();
    });
    using opened = open([host]);
    await fails(
      opened.repository.fetchManifest(descriptor),
      ResourceExhaustedError,
      /longer than 8388608 bytes/,
    );
  });
});

describe("fetchBlob", () => {
  test("gives all bytes", async () => {
    await using host = await fakeHost(sendBlob);
    using opened = open([host]);
    assert.ok((await collect(opened.repository.fetchBlob(blob))).equals(content));
    assert.equal(host.requests[0]?.headers.range, undefined);
  });

  test("gives a part", async () => {
    await using host = await fakeHost(sendBlob);
    using opened = open([host]);
    const part = await collect(opened.repository.fetchBlob({ ...blob, offset: 10, length: 20 }));
    assert.ok(part.equals(content.subarray(10, 30)));
    assert.equal(host.requests[0]?.headers.range, "bytes=10-29");
    const rest = await collect(opened.repository.fetchBlob({ ...blob, offset: blob.size - 5 }));
    assert.ok(rest.equals(content.subarray(-5)));
  });

  test("finds the part where a registry ignores ranges", async () => {
    await using host = await fakeHost((response) => response.end(content));
    using opened = open([host]);
    const part = await collect(opened.repository.fetchBlob({ ...blob, offset: 3_000_000, length: 20 }));
    assert.ok(part.equals(content.subarray(3_000_000, 3_000_020)));
  });

  test("goes on where the connection broke, at another host too", async () => {
    let answers = 0;
    await using breaking = await fakeHost((response, request) => {
      answers += 1;
      if (answers === 1) {
        response.writeHead(200, { "content-length": String(content.length) });
        response.write(content.subarray(0, 1_000_000), () => response.destroy());
      } else {
        sendError(response, 404);
      }
      return request;
    });
    await using host = await fakeHost(sendBlob);
    const told: Retry[] = [];
    using opened = open([breaking, host], { onRetry: (retry) => told.push(retry) });
    assert.ok((await collect(opened.repository.fetchBlob(blob))).equals(content));
    const first = /^bytes=(\d+)-\d+$/.exec(host.requests[0]?.headers.range ?? "")?.[1];
    assert.ok(Number(first) > 0 && Number(first) <= 1_000_000);
    assert.equal(told.length, 1);
    assert.match(told[0]?.reason ?? "", /^Cannot fetch blob sha256:\w+ of library\/app from/);
  });

  test("gives up on a host that breaks again and again without a byte", async () => {
    await using host = await fakeHost((response) => {
      response.writeHead(200, { "content-length": String(content.length) });
      response.flushHeaders();
      response.destroy();
    });
    using opened = open([host]);
    await fails(collect(opened.repository.fetchBlob(blob)), TransientError, /fetch blob/);
    assert.equal(opened.waits.length, 4);
  });

  test("refuses more or less than the size", async () => {
    const longer = Buffer.concat([content, Buffer.from("x")]);
    const shorter = content.subarray(1);
    for (const bytes of [longer, shorter]) {
      await using said = await fakeHost((response, request) => sendBlob(response, request, bytes));
      // Without a length in the headers it shows only when the bytes come.
      await using unsaid = await fakeHost((response) => {
        response.flushHeaders();
        response.end(bytes);
      });
      for (const host of [said, unsaid]) {
        using opened = open([host]);
        await fails(collect(opened.repository.fetchBlob(blob)), DataLossError, /bytes/);
      }
    }
  });

  test("refuses a range that is not the one asked for", async () => {
    for (const range of ["bytes 0-19/4194304", "bytes */4194304", "", "bytes 10-29/5"]) {
      await using host = await fakeHost((response) => {
        response.writeHead(206, { "content-range": range }).end(content.subarray(0, 20));
      });
      using opened = open([host]);
      const reading = collect(opened.repository.fetchBlob({ ...blob, offset: 10, length: 20 }));
      await assert.rejects(reading, ServiceError);
    }
  });

  test("refuses a range that is not within the blob", async () => {
    using opened = open([]);
    using reachable = open([], { hosts: [{ scheme: "http", host: "x", path: "", capabilities: ["pull"] }] });
    await fails(collect(opened.repository.fetchBlob(blob)), FailedPreconditionError, /no host/).catch(
      (error) => {
        throw error;
      },
    );
    for (const part of [{ offset: -1 }, { offset: 1, length: blob.size }, { offset: 0.5 }, { length: -1 }]) {
      await fails(
        collect(reachable.repository.fetchBlob({ ...blob, ...part })),
        InvalidArgumentError,
        /Cannot read/,
      );
    }
  });

  test("reads a blob of unknown size to its end", async () => {
    await using host = await fakeHost(sendBlob);
    using opened = open([host]);
    assert.ok((await collect(opened.repository.fetchBlob({ digest: blob.digest }))).equals(content));
    const tail = await collect(opened.repository.fetchBlob({ digest: blob.digest, offset: blob.size - 3 }));
    assert.ok(tail.equals(content.subarray(-3)));
  });

  test("tries the blob's own places first, without authorization (CVE-2020-15157)", async () => {
    await using elsewhere = await fakeHost((response, request) =>
      request.line.includes("/gone") ? sendError(response, 404) : sendBlob(response, request),
    );
    await using host = await fakeHost(sendBlob);
    const authorizer: Authorizer = { authorize: () => Promise.resolve({ value: "Bearer s3cret" }) };
    using opened = open([host], { authorizer });
    const urls = [`${urlOn(elsewhere, "/gone")}`, `${urlOn(elsewhere, "/layer")}`];
    assert.ok((await collect(opened.repository.fetchBlob({ ...blob, urls }))).equals(content));
    assert.deepEqual([elsewhere.lines, host.lines], [["GET /gone", "GET /layer"], []]);
    assert.ok(elsewhere.requests.every(({ headers }) => headers.authorization === undefined));
    const bad = ["file:///etc/passwd", "http://user:pw@127.0.0.1/", "nonsense"];
    assert.ok((await collect(opened.repository.fetchBlob({ ...blob, urls: bad }))).equals(content));
    assert.equal(host.requests.length, 1);
  });

  test("asks one host for at most four at a time", async () => {
    const waiting: (() => void)[] = [];
    let most = 0;
    await using host = await fakeHost(async (response, request) => {
      waiting.push(() => sendBlob(response, request));
      most = Math.max(most, waiting.length);
      if (waiting.length === 4) {
        // A fifth one would have been sent together with these.
        for (let turns = 0; turns < 100; turns += 1) {
          await new Promise((resolve) => {
            setImmediate(resolve);
          });
        }
        for (const answer of waiting.splice(0)) {
          answer();
        }
      }
    });
    using opened = open([host]);
    await Promise.all(Array.from({ length: 8 }, () => collect(opened.repository.fetchBlob(blob))));
    assert.equal(most, 4);
  });
});

test("fetchDocument verifies a config and does not read a large one", async () => {
  await using host = await fakeHost((response, request) => sendBlob(response, request, manifest));
  using opened = open([host]);
  assert.deepEqual(await opened.repository.fetchDocument(descriptor), manifest);
  const other = { ...descriptor, digest: digestOf("other") };
  await fails(opened.repository.fetchDocument(other), DataLossError, /what came has digest/);
  const large = { ...descriptor, size: 8 * 1024 * 1024 + 1 };
  await fails(opened.repository.fetchDocument(large), InvalidArgumentError, /want at most 8388608/);
  assert.equal(host.requests.length, 2);
});

describe("retries", () => {
  test("come after every host has failed, to those whose failure may pass", async () => {
    let answers = 0;
    await using lacking = await fakeHost((response) => sendError(response, 404));
    await using busy = await fakeHost((response) => {
      answers += 1;
      if (answers < 3) {
        sendError(response, 503);
      } else {
        sendManifest(response);
      }
    });
    using opened = open([lacking, busy]);
    assert.deepEqual(await opened.repository.fetchManifest(descriptor), manifest);
    assert.deepEqual([lacking.requests.length, busy.requests.length, opened.waits.length], [1, 3, 2]);
  });

  test("wait as long as a busy host asks", async () => {
    let answers = 0;
    await using busy = await fakeHost((response) => {
      answers += 1;
      if (answers === 1) {
        sendError(response, 429, "TOOMANYREQUESTS", { "retry-after": "30" });
      } else {
        sendManifest(response);
      }
    });
    using opened = open([busy]);
    await opened.repository.fetchManifest(descriptor);
    assert.deepEqual(opened.waits, [30_000]);
  });

  test("end, with what the host said last", async () => {
    await using busy = await fakeHost((response) => sendError(response, 500, "UNKNOWN"));
    using opened = open([busy]);
    await fails(opened.repository.fetchManifest(descriptor), TransientError, /HTTP 500: UNKNOWN/);
    assert.equal(busy.requests.length, 5);
  });

  test("are not made where nobody answers", async () => {
    await using host = await fakeHost((response) => response.end());
    await host[Symbol.asyncDispose]();
    using opened = open([host]);
    await fails(opened.repository.resolve({ tag: "1" }), UnavailableError, /it refuses connections/);
    assert.deepEqual(opened.waits, []);
  });
});

describe("authorization", () => {
  /** A host that wants the value that `wanted` returns. */
  function guarded(wanted: () => string): Promise<FakeHost> {
    return fakeHost((response, { headers }) => {
      if (headers.authorization === wanted()) {
        sendManifest(response);
      } else {
        sendError(response, 401, "UNAUTHORIZED", {
          "www-authenticate": ['Basic realm="a"', 'Bearer realm="b"'],
        });
      }
    });
  }

  /** Gives `values` one after the other, and remembers what it was asked. */
  function scripted(...values: readonly (string | undefined)[]) {
    const queries: AuthorizationQuery[] = [];
    const authorizer: Authorizer = {
      authorize: (query) => {
        const value = values[queries.length];
        queries.push(query);
        return Promise.resolve({ ...(value !== undefined && { value }) });
      },
    };
    return { authorizer, queries };
  }

  test("is asked for before the first request, and renewed when it is refused", async () => {
    await using host = await guarded(() => "Bearer new");
    const { authorizer, queries } = scripted("Bearer old", "Bearer new");
    using opened = open([host], { authorizer });
    assert.deepEqual(await opened.repository.fetchManifest(descriptor), manifest);
    assert.deepEqual(queries, [
      { host: host.host.host, challenges: [] },
      {
        host: host.host.host,
        challenges: ['Basic realm="a"', 'Bearer realm="b"'],
        refused: "Bearer old",
      },
    ]);
    await opened.repository.fetchManifest(descriptor);
    assert.deepEqual([queries.length, host.requests.length], [2, 3]);
  });

  test("is not tried twice with the same value", async () => {
    await using host = await guarded(() => "Bearer right");
    const { authorizer, queries } = scripted(undefined, "Bearer wrong", "Bearer wrong");
    using opened = open([host], { authorizer });
    await fails(opened.repository.fetchManifest(descriptor), UnauthenticatedError, /401: UNAUTHORIZED/);
    assert.deepEqual([queries.length, host.requests.length], [3, 2]);
  });

  test("is not tried for ever", async () => {
    let count = 0;
    await using host = await guarded(() => "Bearer right");
    const authorizer: Authorizer = {
      authorize: () => {
        count += 1;
        return Promise.resolve({ value: `Bearer ${count}` });
      },
    };
    using opened = open([host], { authorizer });
    await fails(opened.repository.fetchManifest(descriptor), UnauthenticatedError, /401/);
    assert.equal(host.requests.length, 41);
  });

  test("is asked for again when it has expired", async () => {
    await using host = await guarded(() => "Bearer x");
    const queries: AuthorizationQuery[] = [];
    const authorizer: Authorizer = {
      authorize: (query) => {
        queries.push(query);
        return Promise.resolve({ value: "Bearer x", expiresAtMs: Date.now() - 1 });
      },
    };
    using opened = open([host], { authorizer });
    await opened.repository.fetchManifest(descriptor);
    await opened.repository.fetchManifest(descriptor);
    assert.deepEqual(
      queries.map(({ challenges }) => challenges),
      [[], []],
    );
  });

  test("is used on when it is to be renewed and nobody can be asked for another one", async () => {
    await using host = await guarded(() => "Bearer x");
    let asked = 0;
    const authorizer: Authorizer = {
      authorize: () => {
        asked += 1;
        return asked === 1
          ? Promise.resolve({ value: "Bearer x", expiresAtMs: Date.now() - 1 })
          : Promise.reject(new UnavailableError("the resolver restarts"));
      },
    };
    using opened = open([host], { authorizer });
    await opened.repository.fetchManifest(descriptor);
    await opened.repository.fetchManifest(descriptor);
    assert.deepEqual([asked, host.requests.length], [2, 2]);
    using other = open([host], { authorizer });
    await fails(other.repository.fetchManifest(descriptor), UnavailableError, /the resolver restarts/);
  });

  test("of nobody is told as what the host said", async () => {
    await using host = await guarded(() => "Bearer right");
    using opened = open([host]);
    await fails(
      opened.repository.fetchManifest(descriptor),
      UnauthenticatedError,
      /of library\/app from .* 401/,
    );
  });

  test("with user name and password goes to its host alone", async () => {
    const value = `Basic ${Buffer.from("user:pass:word").toString("base64")}`;
    await using host = await guarded(() => value);
    await using other = await guarded(() => value);
    const authorizer = basicAuthorizer(host.host.host, "user", "pass:word");
    using opened = open([other, host], { authorizer });
    assert.deepEqual(await opened.repository.fetchManifest(descriptor), manifest);
    assert.ok(other.requests.every(({ headers }) => headers.authorization === undefined));
    assert.equal(host.requests[0]?.headers.authorization, undefined);
  });
});

describe("pushBlob", () => {
  const upload = { digest: blob.digest, body: { sizeBytes: blob.size, open: () => [content] } };

  test("sends nothing that is there", async () => {
    await using host = await fakeHost((response) =>
      response.writeHead(200, { "content-length": String(blob.size) }).end(),
    );
    using opened = open([host]);
    assert.equal(await opened.repository.pushBlob(upload), "exists");
    assert.deepEqual(host.lines, [`HEAD /v2/library/app/blobs/${blob.digest}`]);
  });

  test("asks to have it taken over from another repository", async () => {
    await using host = await fakeHost((response, { line }) =>
      response.writeHead(line.startsWith("HEAD") ? 404 : 201).end(),
    );
    const queries: AuthorizationQuery[] = [];
    const authorizer: Authorizer = {
      authorize: (query) => {
        queries.push(query);
        return Promise.resolve({});
      },
    };
    using opened = open([host], { authorizer });
    assert.equal(await opened.repository.pushBlob({ ...upload, mountFrom: "library/base" }), "mounted");
    assert.equal(
      host.lines[1],
      `POST /v2/library/app/blobs/uploads/?mount=${encodeURIComponent(blob.digest)}&from=library%2Fbase`,
    );
    assert.deepEqual(queries.at(-1)?.extraScopes, ["repository:library/base:pull"]);
  });

  test("sends it where it may not be taken over", async () => {
    await using host = await fakeHost((response, { line }) => {
      if (line.startsWith("HEAD")) {
        response.writeHead(404).end();
      } else if (line.includes("mount=")) {
        response.writeHead(401).end();
      } else {
        response.writeHead(line.startsWith("POST") ? 202 : 201, { location: "/upload/1" }).end();
      }
    });
    using opened = open([host]);
    assert.equal(await opened.repository.pushBlob({ ...upload, mountFrom: "private" }), "uploaded");
  });

  test("sends it where the registry says, with what is in that URL left as it is", async () => {
    await using host = await fakeHost((response, { line }) => {
      if (line.startsWith("HEAD")) {
        response.writeHead(404).end();
      } else if (line.startsWith("POST")) {
        response.writeHead(202, { location: "/upload/1?_state=a%2Bb~*" }).end();
      } else {
        response.writeHead(201).end();
      }
    });
    using opened = open([host]);
    assert.equal(await opened.repository.pushBlob(upload), "uploaded");
    assert.equal(host.lines[2], `PUT /upload/1?_state=a%2Bb~*&digest=${encodeURIComponent(blob.digest)}`);
    assert.ok(host.requests[2]?.body.equals(content));
    assert.equal(host.requests[2]?.headers["content-length"], String(blob.size));
  });

  test("takes no credentials to another host that it is sent to", async () => {
    await using storage = await fakeHost((response) => response.writeHead(201).end());
    await using host = await fakeHost((response, { line }) =>
      response
        .writeHead(line.startsWith("HEAD") ? 404 : 202, { location: `${urlOn(storage, "/put?sig=1")}` })
        .end(),
    );
    const authorizer: Authorizer = { authorize: () => Promise.resolve({ value: "Bearer s3cret" }) };
    using opened = open([], { hosts: [{ ...host.host, headers: { "x-own": ["1"] } }], authorizer });
    assert.equal(await opened.repository.pushBlob(upload), "uploaded");
    const headers = storage.requests[0]?.headers;
    assert.deepEqual([headers?.authorization, headers?.["x-own"]], [undefined, undefined]);
    assert.equal(host.requests[1]?.headers.authorization, "Bearer s3cret");
  });

  test("begins anew when the connection breaks, the upload is forgotten or the authorization expires on the way", async () => {
    let puts = 0;
    await using host = await fakeHost((response, { line }) => {
      if (line.startsWith("HEAD")) {
        response.writeHead(404).end();
      } else if (line.startsWith("POST")) {
        response.writeHead(202, { location: "/upload/1" }).end();
      } else {
        puts += 1;
        if (puts === 1) {
          response.destroy();
        } else if (puts === 2) {
          sendError(response, 503);
        } else if (puts === 3) {
          sendError(response, 404, "BLOB_UPLOAD_UNKNOWN");
        } else if (puts === 5) {
          sendError(response, 416, "RANGE_INVALID");
        } else if (puts === 4) {
          sendError(response, 401);
        } else {
          response.writeHead(201).end();
        }
      }
    });
    let tokens = 0;
    const authorizer: Authorizer = {
      authorize: () => {
        tokens += 1;
        return Promise.resolve({ value: `Bearer ${tokens}` });
      },
    };
    using opened = open([host], { authorizer });
    assert.equal(await opened.repository.pushBlob(upload), "uploaded");
    assert.ok(host.requests.at(-1)?.body.equals(content));
    assert.equal(host.requests.at(-1)?.headers.authorization, "Bearer 2");
  });

  /** A host that begins uploads, and answers what is sent there as it is told. */
  const uploading = (sent: (response: ServerResponse, request: SeenRequest) => void, begun = {}) =>
    fakeHost((response, request) => {
      const [method] = request.line.split(" ");
      if (method === "HEAD") {
        response.writeHead(404).end();
      } else if (method === "POST") {
        response.writeHead(202, { location: "/upload/1", ...begun }).end();
      } else {
        sent(response, request);
      }
    });
  const linesAfterPost = ({ requests }: FakeHost) =>
    requests
      .filter(({ line }) => !/^(HEAD|POST) /.test(line))
      .map(({ line, headers }) => `${line.replace(/\?.*$/, "")} ${headers["content-range"] ?? ""}`.trim());

  test("sends it in pieces where a proxy does not take the whole, each to where the registry says", async () => {
    const bytes = randomBytes(600 * 1024);
    const received: Buffer[] = [];
    await using host = await uploading((response, { line, body }) => {
      if (body.length > 300 * 1024) {
        sendError(response, 413);
        return;
      }
      received.push(body);
      const status = line.startsWith("PATCH") ? 202 : 201;
      response.writeHead(status, { location: `/upload/${received.length + 1}` }).end();
    });
    using opened = open([host]);
    const pieces = async function* () {
      yield bytes.subarray(0, 100_000);
      yield bytes.subarray(100_000);
    };
    const body = { sizeBytes: bytes.length, open: pieces };
    assert.equal(await opened.repository.pushBlob({ digest: digestOf(bytes), body }), "uploaded");
    assert.deepEqual(linesAfterPost(host), [
      "PUT /upload/1",
      "PATCH /upload/1 0-262143",
      "PATCH /upload/2 262144-524287",
      "PATCH /upload/3 524288-614399",
      "PUT /upload/4",
    ]);
    assert(Buffer.concat(received).equals(bytes));
  });

  test("sends no pieces that are smaller than the registry takes, and gives up where none is small enough", async () => {
    const bytes = randomBytes(600 * 1024);
    await using host = await uploading(
      (response, { body }) => sendError(response, body.length > 0 ? 413 : 201),
      {
        "oci-chunk-min-length": "400000",
      },
    );
    using opened = open([host]);
    const pushing = opened.repository.pushBlob({ digest: digestOf(bytes), body: bytesBody(bytes) });
    await fails(pushing, ResourceExhaustedError, /it answered HTTP 413/);
    assert.deepEqual(linesAfterPost(host), ["PUT /upload/1", "PATCH /upload/1 0-399999"]);
  });

  test("goes on where it has broken off, if the registry has kept that", async () => {
    let isBack = false;
    const received: Buffer[] = [];
    await using host = await uploading((response, { line, body }) => {
      if (!isBack) {
        isBack = true;
        received.push(body.subarray(0, 5));
        sendError(response, 503);
      } else if (line.startsWith("GET")) {
        response.writeHead(204, { location: "/upload/2", range: "0-4" }).end();
      } else {
        received.push(body);
        response.writeHead(line.startsWith("PATCH") ? 202 : 201, { location: "/upload/3" }).end();
      }
    });
    using opened = open([host]);
    assert.equal(await opened.repository.pushBlob(upload), "uploaded");
    const rest = `PATCH /upload/2 5-${blob.size - 1}`;
    assert.deepEqual(linesAfterPost(host), ["PUT /upload/1", "GET /upload/1", rest, "PUT /upload/3"]);
    assert(Buffer.concat(received).equals(content));
  });

  test("begins anew where what the registry has kept turns out not to be what came", async () => {
    let puts = 0;
    await using host = await uploading((response, { line, body }) => {
      if (line.startsWith("GET")) {
        response.writeHead(204, { location: "/upload/2", range: "0-9" }).end();
      } else if (line.startsWith("PATCH")) {
        response.writeHead(202, { location: "/upload/3" }).end();
      } else {
        puts += 1;
        if (puts === 1) {
          sendError(response, 503);
        } else {
          sendError(response, body.equals(content) ? 201 : 400, "DIGEST_INVALID");
        }
      }
    });
    using opened = open([host]);
    assert.equal(await opened.repository.pushBlob(upload), "uploaded");
    const rest = `PATCH /upload/2 10-${blob.size - 1}`;
    const resumed = ["GET /upload/1", rest, "PUT /upload/3"];
    assert.deepEqual(linesAfterPost(host), ["PUT /upload/1", ...resumed, "PUT /upload/1"]);
  });

  test("many at a time do not wait for each other for ever", async () => {
    await using host = await fakeHost((response, { line }) => {
      const status = line.startsWith("HEAD") ? 404 : line.startsWith("POST") ? 202 : 201;
      response.writeHead(status, { location: "/upload/1" }).end();
    });
    using opened = open([host]);
    const results = await Promise.all(Array.from({ length: 20 }, () => opened.repository.pushBlob(upload)));
    assert.ok(results.every((result) => result === "uploaded"));
  });
});

describe("pushManifest", () => {
  test("puts it under a tag or its digest", async () => {
    await using host = await fakeHost((response) =>
      response.writeHead(201, { "docker-content-digest": digest }).end(),
    );
    using opened = open([host]);
    const pushed = { mediaType: ociManifest, bytes: manifest };
    assert.deepEqual(await opened.repository.pushManifest({ ...pushed, tag: "3" }), descriptor);
    assert.deepEqual(await opened.repository.pushManifest(pushed), descriptor);
    assert.deepEqual(host.lines, [
      "HEAD /v2/library/app/manifests/3",
      "PUT /v2/library/app/manifests/3",
      `HEAD /v2/library/app/manifests/${digest}`,
      `PUT /v2/library/app/manifests/${digest}`,
    ]);
    assert.equal(host.requests[1]?.headers["content-type"], ociManifest);
    assert.deepEqual(host.requests[1]?.body, manifest);
  });

  test("does not put it where it is already, and puts it where another one is", async () => {
    let named = digest;
    await using host = await fakeHost((response, { line }) =>
      response.writeHead(line.startsWith("HEAD") ? 200 : 201, { "docker-content-digest": named }).end(() => {
        named = digest;
      }),
    );
    using opened = open([host]);
    const pushed = { mediaType: ociManifest, bytes: manifest, tag: "3" };
    assert.deepEqual(await opened.repository.pushManifest(pushed), descriptor);
    named = digestOf("other");
    assert.deepEqual(await opened.repository.pushManifest(pushed), descriptor);
    assert.deepEqual(
      host.lines.map((line) => line.split(" ")[0]),
      ["HEAD", "HEAD", "PUT"],
    );
  });

  test("tells what the registry finds wrong with it", async () => {
    await using host = await fakeHost((response) => sendError(response, 400, "MANIFEST_INVALID"));
    using opened = open([host]);
    const pushing = opened.repository.pushManifest({ mediaType: ociManifest, bytes: manifest });
    await fails(pushing, InvalidArgumentError, /^Cannot push manifest .* 400: MANIFEST_INVALID: /);
  });

  test("does not believe a registry that has stored something else", async () => {
    await using host = await fakeHost((response) =>
      response.writeHead(201, { "docker-content-digest": digestOf("other") }).end(),
    );
    using opened = open([host]);
    const pushing = opened.repository.pushManifest({ mediaType: ociManifest, bytes: manifest });
    await fails(pushing, DataLossError, /it stored it as/);
  });
});

test("a path that could lead elsewhere is no repository", () => {
  using client = new RegistryClient();
  for (const repository of ["", "../admin", "a/../b", "a//b", "A", "a?x", "a#x", "a%2fb"]) {
    assert.throws(() => client.repository({ hosts: [], repository }), InvalidArgumentError);
  }
});

test("whoever watches is told how each host did", async () => {
  await using lacking = await fakeHost((response) => sendError(response, 404));
  await using refusing = await fakeHost((response) => sendError(response, 401));
  await using having = await fakeHost((response) => sendManifest(response));
  const outcomes: [host: string, failure: string | undefined][] = [];
  using opened = open([lacking, refusing, having], {
    onOutcome: ({ host }, failure) => outcomes.push([host, failure]),
  });
  await opened.repository.fetchManifest(descriptor);
  const [first, second, third] = outcomes;
  assert.deepEqual(first, [lacking.host.host, "HTTP 404"]);
  assert.equal(second?.[0], refusing.host.host);
  assert.match(second?.[1] ?? "", /401/);
  assert.deepEqual(third, [having.host.host, undefined]);
  assert.equal(outcomes.length, 3);
});
