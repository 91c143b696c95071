import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { type Authority, createAuthority } from "./peers/certificates.ts";
import { freePort } from "./peers/free-port.ts";
import { createImage } from "./peers/image.ts";
import { pushTo, user } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker } from "./peers/worker.ts";

const program = join(import.meta.dirname, "../services/ociw/bin/ociw");

/** What ociw writes, with nothing of this machine in its environment but what it is given. */
async function ociw(environment: NodeJS.ProcessEnv, ...args: string[]): Promise<string> {
  const { BUILDKIT_HOST: _host, ...rest } = process.env;
  const { stdout } = await promisify(execFile)(program, args, { env: { ...rest, ...environment } });
  return stdout;
}

/** A failure of one line that tells of `message`. */
async function fails(work: Promise<string>, message: RegExp, exitCode = 1): Promise<void> {
  await assert.rejects(work, (error: Error & { readonly code: number; readonly stderr: string }) => {
    assert.match(error.stderr, message);
    assert.equal(error.code, exitCode);
    assert.doesNotMatch(error.stderr, /PRIVATE KEY|\n\s+at /);
    return true;
  });
}

/** A worker that listens on a port of 127.0.0.1, with a certificate of `authority`. */
async function startSecured(authority: Authority, certificate = "worker", days?: number, asks = true) {
  const { cert, key } = await authority.sign(certificate, days);
  const address = `tcp://127.0.0.1:${await freePort()}`;
  const clients = asks ? ["--tlscacert", authority.cert] : [];
  const worker = await startWorker({
    args: ["--addr", address, "--tlscert", cert, "--tlskey", key, ...clients],
  });
  return { address, [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose]() };
}

describe("ociw and a worker in the network", () => {
  test("run a command in an image with the client's credentials, over TLS that both have proven", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "network-"));
    const authority = await createAuthority(directory.path, "authority");
    const { cert, key } = await authority.sign("client");
    await using registry = await startRegistry({ access: { kind: "password", ...user } });
    const { domain, repository } = await pushTo(registry, await createImage());
    const auth = Buffer.from(`${user.username}:${user.password}`).toString("base64");
    await writeFile(join(directory.path, "config.json"), JSON.stringify({ auths: { [domain]: { auth } } }));
    await using worker = await startSecured(authority);
    const tls = ["--tlscacert", authority.cert, "--tlscert", cert, "--tlskey", key];
    const environment = { BUILDKIT_HOST: worker.address, DOCKER_CONFIG: directory.path };
    const output = join(directory.path, "out");
    const command = ["--", "sh", "-c", "echo ran; echo made > /made"];
    const image = `${domain}/${repository}:1`;
    assert.equal(await ociw(environment, ...tls, "run", "--output", output, image, ...command), "ran\n");
    assert.equal(await readFile(join(output, "made"), "utf8"), "made\n");
    assert.match(await ociw(environment, "info", ...tls), /^ADDRESS .*\ntcp:\/\/127\.0\.0\.1:\d+ /);
    assert.match(await ociw(environment, "prune", "--all", ...tls), /\nTotal: /);

    const [pem, secret] = [join(directory.path, "pem"), join(directory.path, "secret")];
    for (const [place, ...names] of [
      [pem, "ca.pem", "cert.pem", "key.pem"],
      [secret, "ca.crt", "tls.crt", "tls.key"],
    ] as const) {
      await mkdir(place);
      for (const [index, from] of [authority.cert, cert, key].entries()) {
        await copyFile(from, join(place, names[index] ?? ""));
      }
      const args = ["--tlsdir", place, "--tlsservername", "localhost"];
      assert.match(await ociw(environment, ...args, "workers"), /^ID +PLATFORMS/);
    }
  });

  test("say in the clear what they have to, if that is what is wanted", async () => {
    const address = `tcp://127.0.0.1:${await freePort()}`;
    await using _worker = await startWorker({ args: ["--addr", address] });
    assert.match(await ociw({}, "--addr", address, "workers"), /^ID +PLATFORMS/);
    await using directory = await mkdtempDisposable(join(tmpdir(), "network-"));
    const { cert } = await createAuthority(directory.path, "authority");
    await fails(
      ociw({ BUILDKIT_HOST: address }, "--tlscacert", cert, "workers"),
      /^ociw: Cannot reach tcp:\/\/127\.0\.0\.1:\d+: it does not speak TLS/,
    );
  });

  test("tell why they do not come together", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "network-"));
    const authority = await createAuthority(directory.path, "authority");
    const other = await createAuthority(directory.path, "other");
    const [own, strange] = [await authority.sign("client"), await other.sign("client")];
    const ca = ["--tlscacert", authority.cert];
    await using worker = await startSecured(authority);
    const asked = (...args: string[]) => ociw({}, "--addr", worker.address, ...args, "workers");
    const reach = "^ociw: Cannot reach tcp://127\\.0\\.0\\.1:\\d+: ";
    const withOwn = ["--tlscert", own.cert, "--tlskey", own.key];
    for (const [args, message] of [
      [["--tlscacert", other.cert, ...withOwn], "its certificate is .*not trusted"],
      [[...ca, ...withOwn, "--tlsservername", "elsewhere.test"], "its certificate is for another name"],
      [[], "it does not speak HTTP/2 in the clear, want TLS if it speaks that"],
      [ca, "it (wants a certificate of ours|ended the connection at once, want a certificate)"],
      [
        [...ca, "--tlscert", strange.cert, "--tlskey", strange.key],
        "it (does not trust the authority|ended the connection at once, want a certificate that it takes)",
      ],
    ] as const) {
      await fails(asked(...args), new RegExp(`${reach}${message}`));
    }
    const nobody = `tcp://127.0.0.1:${await freePort()}`;
    await fails(ociw({}, "--addr", nobody, "workers"), /it refuses connections \(ECONNREFUSED\)/);

    await using old = await startSecured(authority, "old", -1, false);
    await fails(ociw({}, "--addr", old.address, ...ca, "workers"), /its certificate has expired/);

    const missing = join(directory.path, "missing.pem");
    for (const [args, message] of [
      [["--tlscacert", missing], /Cannot use --tlscacert: ENOENT.*missing\.pem', want a PEM file/],
      [["--tlscacert", program], /Cannot use --tlscacert: there is no PEM in /],
      [["--tlscert", own.cert], /Cannot use --tlscert and --tlskey one without the other/],
      [["--tlsservername", "x"], /Cannot use --tlsservername without TLS: want --tlscacert/],
      [["--tlsdir", directory.path], /Cannot use --tlsdir .*: it does not contain ca\.pem or ca\.crt/],
      [["--tlsdir", ".", ...ca], /cannot specify tlsdir and tlscacert\/tlscert\/tlskey at the same time/],
    ] as const) {
      await fails(asked(...args), message, 2);
    }
    await fails(
      asked(...ca, "--tlscert", own.cert, "--tlskey", strange.key),
      /Cannot use TLS: .*want PEM, and a certificate and key that go together/,
    );
    await fails(ociw({}, "--addr", "unix:///x.sock", ...ca, "workers"), /TLS is not for unix sockets/);
  });
});
