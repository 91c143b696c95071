import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { type AddressInfo, isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connect, createServer } from "node:tls";
import { promisify } from "node:util";
import { Authority } from "./authority.ts";

test("an authority certifies every name and address, as the strictest of clients want it", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "authority-"));
  const authority = await Authority.create();
  const ca = join(directory.path, "ca.pem");
  await writeFile(ca, authority.pem);
  for (const host of [
    "a.example",
    "127.0.0.1",
    "2001:db8::1",
    `${"n".repeat(60)}.${"m".repeat(60)}.example`,
  ]) {
    const certificate = join(directory.path, "host.pem");
    await writeFile(certificate, await certificateOf(authority, host));
    const name = isIP(host) === 0 ? "-verify_hostname" : "-verify_ip";
    const args = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, name, host, certificate];
    const { stdout } = await promisify(execFile)("openssl", args);
    assert.match(stdout, /host\.pem: OK/, host);
  }
});

test("an authority certifies a host once", async () => {
  const authority = await Authority.create();
  const context = authority.contextFor("a.example");
  assert.equal(authority.contextFor("a.example"), context);
  for (let index = 0; index < 3; index += 1) {
    assert.notEqual(authority.contextFor(`${index}.example`), context);
  }
});

/** What a server with the context for `host` shows, PEM; checked to be trusted with the authority, and not without. */
async function certificateOf(authority: Authority, host: string): Promise<string> {
  await using server = createServer({ SNICallback: (_, use) => use(null, authority.contextFor(host)) });
  server.on("tlsClientError", () => undefined);
  server.on("secureConnection", (connection) => connection.on("error", () => undefined));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const servername = "any.example";
  const checkServerIdentity = () => undefined;
  const distrusting = connect({ port, servername, checkServerIdentity });
  const [error] = await once(distrusting, "error");
  assert.match(error.code, /UNABLE_TO_VERIFY_LEAF_SIGNATURE/);
  const trusting = connect({ port, servername, checkServerIdentity, ca: authority.pem });
  await once(trusting, "secureConnect");
  const der = trusting.getPeerCertificate().raw.toString("base64");
  trusting.destroy();
  return `-----BEGIN CERTIFICATE-----\n${der.replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;
}
