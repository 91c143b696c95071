import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { createServer } from "node:tls";
import { createAuthority, serverOptions } from "@oci-worker/registry/test-certificates";
import { Echo } from "../echo/service.ts";
import { echoing } from "../echo/serving.ts";
import { implement } from "./router.ts";
import { serveDuplex } from "./serve.ts";

test("a server answers over TLS, where HTTP/2 is agreed upon", async () => {
  await using authority = await createAuthority();
  const certificate = await serverOptions(await authority.issue("grpc"));
  const server = createServer({ ...certificate, ALPNProtocols: ["h2"] }, (socket) => {
    serveDuplex(socket, { implementations: [implement(Echo, echoing)] });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: await readFile(authority.caFile) });
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
    server.close();
    await once(server, "close");
  }
});
