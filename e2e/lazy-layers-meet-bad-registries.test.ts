import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import type { ServerResponse } from "node:http";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { withLazyContainerd } from "./peers/lazy-images.ts";
import { killAfter } from "./peers/tree.ts";
import { type GoodAnswer, type Mishap, startUnrulyFront, type UnrulyFront } from "./peers/unruly-front.ts";

const execute = promisify(execFile);
const [command, ...args] = killAfter;

/** More than what is fetched around a read. */
const fileBytes = 3_000_000;

/** Nothing is read before it is asked for. */
const onDemand = { lazy_prefetch: "false", lazy_background_fetch: "false" };

/** The first request meets `mishap`, those that follow do not. */
function once(mishap: (response: ServerResponse, good: GoodAnswer) => void): Mishap {
  let isOver = false;
  return (_incoming, response, good) => {
    const isNow = !isOver;
    isOver = true;
    if (isNow) {
      mishap(response, good);
    }
    return isNow;
  };
}

/** Redirects to addresses that are good once, and are refused from then on. */
function signing(toAddress: (path: string) => string): Mishap {
  const fresh = new Set<string>();
  let signatures = 0;
  return ({ url = "", headers }, response) => {
    const [, path = "", signature] = /^([^?]*)(?:\?signature=(.*))?$/.exec(url) ?? [];
    if (signature === undefined) {
      signatures += 1;
      fresh.add(String(signatures));
      response.writeHead(307, { location: `${toAddress(path)}?signature=${signatures}` }).end();
      return true;
    }
    if (headers.authorization !== undefined || !fresh.delete(signature)) {
      response.writeHead(403).end();
      return true;
    }
    return false;
  };
}

/** What a read gets over, so that nobody notices. */
const passing: Readonly<Record<string, (front: UnrulyFront) => Mishap>> = {
  "too many requests": () => once((response) => response.writeHead(429, { "retry-after": "1" }).end()),
  "an error of the server": () => once((response) => response.writeHead(503).end()),
  "a connection that breaks": () => once((response) => response.destroy()),
  "a body that is cut off": () =>
    once((response, { status, headers, body }) => {
      response.writeHead(status, headers);
      response.write(body.subarray(0, body.length / 2), () => response.destroy());
    }),
  "a body that stalls": () =>
    once((response, { status, headers, body }) => {
      response.writeHead(status, headers);
      response.write(body.subarray(0, 10));
    }),
  "redirects to addresses that expire": ({ host }) => signing((path) => `http://${host}${path}`),
  "redirects that are relative": () => signing((path) => path),
};

/** What is no more than slow. */
const odd: Readonly<Record<string, Mishap>> = {
  "whole layers where parts are wanted": (_incoming, response, { whole }) => {
    whole().then((body) => response.writeHead(200, { "content-length": body.length }).end(body));
    return true;
  },
};

/** What cannot be got over, and must not be taken for the content. */
const failing: Readonly<Record<string, Mishap>> = {
  "wrong bytes": (_incoming, response, { status, headers, body }) => {
    response.writeHead(status, headers).end(Buffer.from(body.map((byte) => byte ^ 1)));
    return true;
  },
  "bytes of another place": (_incoming, response, { status, headers, body }) => {
    response.writeHead(status, headers).end(Buffer.concat([body.subarray(1), Buffer.alloc(1)]));
    return true;
  },
  "a page of a login": (_incoming, response) => {
    response.writeHead(200, { "content-type": "text/html", "content-length": 13 }).end("<html></html>");
    return true;
  },
  "no such blob": (_incoming, response) => {
    response.writeHead(404).end();
    return true;
  },
};

const names = [...Object.keys(passing), ...Object.keys(odd), ...Object.keys(failing)];

const members = names.map((name): TarMember => {
  return { type: "file", name: name.replaceAll(" ", "-"), content: randomBytes(fileBytes) };
});

describe("files of a lazy layer", () => {
  test("are read rightly, or not at all, whatever a registry does", async (t) => {
    let front: UnrulyFront | undefined;
    const lay = async (host: string) => {
      front = await startUnrulyFront(host);
      return front;
    };
    const settings = { ...onDemand, lazy_fetch_timeout_ms: "20000" };
    await withLazyContainerd({ members, settings, front: lay }, async (on) => {
      const unruly = front;
      assert(unruly !== undefined);
      await on.rpull();
      await on.viewed(async (path) => {
        const read = async (name: string) => {
          const options = { cwd: path };
          return (
            await execute(command, [...args, "md5sum", name.replaceAll(" ", "-")], options)
          ).stdout.slice(0, 32);
        };
        const sumOf = (name: string) => {
          const content = members[names.indexOf(name)]?.content as Buffer;
          return createHash("md5").update(content).digest("hex");
        };
        let met = 0;
        const meet = (mishap: Mishap | undefined) => {
          met = 0;
          unruly.mishap =
            mishap &&
            ((...request) => {
              met += 1;
              return mishap(...request);
            });
        };
        for (const [name, mishap] of Object.entries(passing)) {
          await t.test(`gets over ${name}`, async () => {
            meet(mishap(unruly));
            assert.equal(await read(name), sumOf(name));
            assert.ok(met > 1, "it was met, and there was another try");
          });
        }
        for (const [name, mishap] of Object.entries(odd)) {
          await t.test(`makes do with ${name}`, async () => {
            meet(mishap);
            assert.equal(await read(name), sumOf(name));
            assert.ok(met > 0, "it was met");
            assert.deepEqual(
              (await on.layers()).layers.filter(({ failure }) => failure),
              [],
            );
          });
        }
        for (const [name, mishap] of Object.entries(failing)) {
          await t.test(`fails by ${name}, says so, and is right when that is over`, async () => {
            meet(mishap);
            await assert.rejects(read(name), /Input\/output error/);
            assert.ok(met > 0);
            const failures = (await on.layers()).layers.filter(({ failure }) => failure);
            assert.equal(failures.length, 1);
            meet(undefined);
            assert.equal(await read(name), sumOf(name));
          });
        }
      });
    });
  });
});
