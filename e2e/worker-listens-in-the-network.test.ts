import assert from "node:assert/strict";
import { once } from "node:events";
import { copyFile, mkdtempDisposable, readFile, stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Control } from "@oci-worker/api/buildkit/control";
import { type CertifiedKey, createAuthority } from "./peers/certificates.ts";
import { freePort } from "./peers/free-port.ts";
import { startWorker } from "./peers/worker.ts";

interface Caller {
  /** Path of the authority that the worker's certificate has to come from; undefined: no TLS. */
  readonly ca?: string;
  readonly own?: CertifiedKey;
}

/** How many workers the daemon on `port` tells of, to a client that shares no code with it. */
async function workersAt(port: number, { ca, own }: Caller): Promise<number> {
  const baseUrl = `${ca === undefined ? "http" : "https"}://127.0.0.1:${port}`;
  const nodeOptions = {
    ...(ca !== undefined && { ca: await readFile(ca) }),
    ...(own && { cert: await readFile(own.cert), key: await readFile(own.key) }),
  };
  const sessionManager = new Http2SessionManager(baseUrl, {}, nodeOptions);
  try {
    const transport = createGrpcTransport({ baseUrl, sessionManager });
    return (await createClient(Control, transport).listWorkers({}, { timeoutMs: 20_000 })).record.length;
  } finally {
    sessionManager.abort();
  }
}

describe("a worker that listens in the network", () => {
  test("serves whoever reaches it, and says so, if it has no certificate", async () => {
    const port = await freePort();
    await using worker = await startWorker({ args: ["--addr", `tcp://127.0.0.1:${port}`] });
    assert.equal(await workersAt(port, {}), 1);
    assert(worker.process.log.some((line) => line.includes("whoever reaches this address may build here")));
  });

  test("proves who it is, and speaks with nobody in the clear", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "tls-"));
    const authority = await createAuthority(directory.path, "authority");
    const { cert, key } = await authority.sign("worker");
    const port = await freePort();
    const args = ["--addr", `tcp://127.0.0.1:${port}`, "--tlscert", cert, "--tlskey", key];
    await using _worker = await startWorker({ args });
    assert.equal(await workersAt(port, { ca: authority.cert }), 1);
    await assert.rejects(workersAt(port, {}));
    const other = await createAuthority(directory.path, "other");
    await assert.rejects(workersAt(port, { ca: other.cert }), /self-signed certificate|unable to verify/);
  });

  test("proves it with a certificate that was renewed meanwhile, and ends while a client has said half a hello", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "tls-"));
    const authority = await createAuthority(directory.path, "authority");
    const port = await freePort();
    const { cert, key } = await authority.sign("first");
    const args = ["--addr", `tcp://127.0.0.1:${port}`, "--tlscert", cert, "--tlskey", key];
    await using worker = await startWorker({ args });
    const nameShown = async () => {
      const socket = connectTls({ port, host: "127.0.0.1", ca: await readFile(authority.cert) });
      await once(socket, "secureConnect");
      const { subject } = socket.getPeerCertificate();
      socket.destroy();
      return subject.CN;
    };
    assert.equal(await nameShown(), "first");
    const renewed = await authority.sign("second");
    await copyFile(renewed.cert, cert);
    assert.equal(await nameShown(), "first", "it does not go with the key yet");
    await copyFile(renewed.key, key);
    assert.equal(await nameShown(), "second");
    assert.equal(await workersAt(port, { ca: authority.cert }), 1);

    const slow = connect(port, "127.0.0.1");
    slow.on("error", () => undefined);
    await once(slow, "connect");
    slow.write(Buffer.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc));
    // With a reset, if the worker has not read all of it yet.
    const closed = new Promise((resolve) => slow.once("close", resolve));
    assert.equal(await worker.process.stop(), 0);
    await closed;
  });

  test("serves only clients whose certificate one of its authorities has signed", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "tls-"));
    const authority = await createAuthority(directory.path, "authority");
    const { cert, key } = await authority.sign("worker");
    const port = await freePort();
    const args = ["--addr", `tcp://127.0.0.1:${port}`, "--tlscert", cert, "--tlskey", key];
    await using worker = await startWorker({ args: [...args, "--tlscacert", authority.cert] });
    const ca = authority.cert;
    assert.equal(await workersAt(port, { ca, own: await authority.sign("client") }), 1);
    await assert.rejects(workersAt(port, { ca }));
    const stranger = await createAuthority(directory.path, "stranger");
    await assert.rejects(workersAt(port, { ca, own: await stranger.sign("client") }));
    assert(!worker.process.log.some((line) => line.includes("whoever reaches this address")));
    assert(!worker.process.log.some((line) => line.includes("PRIVATE KEY")));
  });

  test("gives its sockets to the user that it is told", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "owner-"));
    const [file, socket] = [join(directory.path, "buildkitd.toml"), join(directory.path, "second.sock")];
    await writeFile(file, "[grpc]\nuid = 65534\ngid = 65533\n");
    await using _worker = await startWorker({ args: ["--config", file, "--addr", socket] });
    const { uid, gid } = await stat(socket);
    assert.deepEqual({ uid, gid }, { uid: 65_534, gid: 65_533 });
  });
});
