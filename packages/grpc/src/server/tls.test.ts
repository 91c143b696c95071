import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { describe, test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { createAuthority, serverOptions } from "@oci-worker/registry/test-certificates";
import { Echo } from "../echo/service.ts";
import { echoing } from "../echo/serving.ts";
import { implement } from "./router.ts";
import { type ListenOptions, serve, type TlsSource } from "./serve.ts";

/** Serves the echo service over TLS on a port of 127.0.0.1. */
async function serving(tls: TlsSource, options: Partial<ListenOptions> = {}) {
  const server = await serve({
    addresses: [{ host: "127.0.0.1", port: 0, tls }],
    implementations: [implement(Echo, echoing)],
    ...options,
  });
  return { server, port: server.ports[0] ?? 0, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** The first bytes of a handshake (RFC 8446, section 5.1): a record that says it has 512 bytes, and six of them. */
const halfHello = Buffer.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3);

describe("a server over TLS", () => {
  test("answers where HTTP/2 is agreed upon", async () => {
    await using authority = await createAuthority();
    const certificate = await serverOptions(await authority.issue("grpc"));
    await using on = await serving(() => certificate);
    const session = connectHttp2(`https://127.0.0.1:${on.port}`, { ca: await readFile(authority.caFile) });
    try {
      const stream = session.request({
        ":method": "POST",
        ":path": "/echo.v1.Echo/Count",
        "content-type": "application/grpc",
      });
      // A StringValue of "1000".
      stream.end(Buffer.of(0, 0, 0, 0, 6, 10, 4, 0x31, 0x30, 0x30, 0x30));
      let bytes = 0;
      stream.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      const [trailers] = await once(stream, "trailers");
      assert.equal(trailers["grpc-status"], "0");
      // A thousand envelopes of 5 bytes, 2 before each text, and the numbers from 1 to 1000 themselves.
      assert.equal(bytes, 1000 * 7 + 2893);
    } finally {
      session.destroy();
    }
  });

  test("does not wait for a client in the midst of its handshake when it ends, and lets others end as ever", async () => {
    await using authority = await createAuthority();
    const certificate = await serverOptions(await authority.issue("grpc"));
    // So that only the end of the server can be what cuts them off.
    await using on = await serving(() => certificate, { handshakeTimeoutMs: 2 ** 31 - 1 });
    const closed: Promise<unknown>[] = [];
    for (const bytes of [Buffer.alloc(0), halfHello.subarray(0, 3), halfHello]) {
      const socket: Socket = connect(on.port, "127.0.0.1");
      socket.on("error", () => undefined);
      closed.push(once(socket, "close"));
      await once(socket, "connect");
      socket.write(bytes);
    }
    const ca = await readFile(authority.caFile);
    const ready = connectTls({ port: on.port, host: "127.0.0.1", ca, ALPNProtocols: ["h2"] });
    await once(ready, "secureConnect");
    // What came before this one has been taken by now. It is told to go, and goes.
    const [settings] = (await once(ready, "data")) as [Buffer];
    assert.equal(settings[3], 4);
    const told = once(ready, "data") as Promise<[Buffer]>;
    const disposed = on.server[Symbol.asyncDispose]();
    const [goaway] = await told;
    assert.equal(goaway[3], 7);
    ready.destroy();
    await Promise.all([disposed, ...closed]);
  });

  test("proves itself to each new connection as it is told to by then, and lets others be", async () => {
    await using authority = await createAuthority();
    let certificate = await serverOptions(await authority.issue("first"));
    await using on = await serving(() => certificate);
    const ca = await readFile(authority.caFile);
    const open = async () => {
      const socket: TLSSocket = connectTls({ port: on.port, host: "127.0.0.1", ca, ALPNProtocols: ["h2"] });
      await once(socket, "secureConnect");
      return socket;
    };
    const first = await open();
    certificate = await serverOptions(await authority.issue("second"));
    const second = await open();
    const names = [first, second].map((socket) => socket.getPeerCertificate().subject.CN);
    assert.deepEqual(names, ["first", "second"]);
    assert.deepEqual([first.closed, second.closed], [false, false]);
    first.destroy();
    second.destroy();
  });
});
