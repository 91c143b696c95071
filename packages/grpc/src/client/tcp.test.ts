import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { type Authority, createAuthority, serverOptions } from "@oci-worker/registry/test-certificates";
import { Echo } from "../echo/service.ts";
import { echoing, texts, valuesOf } from "../echo/serving.ts";
import { implement } from "../server/router.ts";
import { type ServerTls, serve } from "../server/serve.ts";
import { type ClientTls, type TcpTarget, tcpChannel } from "./channel.ts";

/** Serves the echo service on a port of 127.0.0.1. */
async function serving(tls?: ServerTls) {
  const server = await serve({
    addresses: [{ host: "127.0.0.1", port: 0, ...(tls && { tls: () => tls }) }],
    implementations: [implement(Echo, echoing)],
  });
  const target = (own?: ClientTls): TcpTarget => ({
    host: "127.0.0.1",
    port: server.ports[0] ?? 0,
    ...(own && { tls: own }),
  });
  return { target, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

async function certified(authority: Authority, name: string) {
  return await serverOptions(await authority.issue(name));
}

async function caOf({ caFile }: Authority): Promise<string> {
  return await readFile(caFile, "utf8");
}

async function echoed(target: TcpTarget): Promise<string> {
  using channel = tcpChannel(target);
  return (await createClient(Echo, channel).one({ value: "a" })).value;
}

async function unreachable(target: TcpTarget, why: RegExp): Promise<void> {
  await assert.rejects(echoed(target), (error) => {
    assert(error instanceof ConnectError);
    assert.equal(error.code, Code.Unavailable);
    const [, told = ""] = /^Cannot reach tcp:\/\/127\.0\.0\.1:\d+: (.*)$/.exec(error.rawMessage) ?? [];
    assert.match(told, why);
    return true;
  });
}

describe("a channel in the network", () => {
  test("speaks in the clear", async () => {
    await using server = await serving();
    using channel = tcpChannel(server.target());
    const echo = createClient(Echo, channel);
    assert.equal((await echo.one({ value: "a" })).value, "a!");
    assert.deepEqual(await valuesOf(echo.talk(texts("x", "y"))), ["X", "Y"]);
  });

  test("speaks TLS, and proves who it is to who wants to know", async () => {
    await using authority = await createAuthority();
    const ca = await caOf(authority);
    const certificate = await certified(authority, "worker");
    {
      await using server = await serving(certificate);
      assert.equal(await echoed(server.target({ ca })), "a!");
      assert.equal(await echoed(server.target({ ca, serverName: "worker.test" })), "a!");
    }
    await using server = await serving({ ...certificate, ca });
    assert.equal(await echoed(server.target({ ca, ...(await certified(authority, "client")) })), "a!");
  });

  test("says what is wrong with the other side, and what the other side finds wrong with us", async () => {
    await using authority = await createAuthority();
    await using other = await createAuthority();
    const [ca, otherCa] = [await caOf(authority), await caOf(other)];
    const certificate = await certified(authority, "worker");
    const untrusted = /^its certificate is .*not trusted/;
    {
      await using server = await serving(certificate);
      await unreachable(server.target({ ca: otherCa }), untrusted);
      await unreachable(server.target({}), untrusted);
      await unreachable(
        server.target({ ca, serverName: "other.test" }),
        /^its certificate is for another name/,
      );
      await unreachable(
        server.target(),
        /^it does not speak HTTP\/2 in the clear, want TLS if it speaks that$/,
      );
    }
    {
      await using server = await serving();
      await unreachable(server.target({ ca }), /^it does not speak TLS/);
    }
    {
      await using server = await serving(await serverOptions(await authority.issue("old", -1)));
      await unreachable(server.target({ ca }), /^its certificate has expired/);
    }
    {
      await using server = await serving({ ...certificate, ca });
      await unreachable(
        server.target({ ca }),
        /^it (wants a certificate of ours|ended the connection at once)/,
      );
      await unreachable(
        server.target({ ca, ...(await certified(other, "stranger")) }),
        /^it (does not trust the authority|ended the connection at once, want a certificate that it takes)/,
      );
    }
    const nobody = createServer();
    nobody.listen(0, "127.0.0.1");
    await once(nobody, "listening");
    const { port } = nobody.address() as AddressInfo;
    nobody.close();
    await once(nobody, "close");
    await unreachable({ host: "127.0.0.1", port }, /^it refuses connections \(ECONNREFUSED\)$/);
  });
});
