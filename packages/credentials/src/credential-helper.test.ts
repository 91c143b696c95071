import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { chmod, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { UnavailableError } from "@oci-worker/errdefs";
import { askCredentialHelper } from "./credential-helper.ts";

const server = "https://registry.example/v1/";

describe("askCredentialHelper", () => {
  const path = process.env["PATH"];
  let directory: Awaited<ReturnType<typeof mkdtempDisposable>>;

  before(async () => {
    directory = await mkdtempDisposable(join(tmpdir(), "helpers-"));
    process.env["PATH"] = `${directory.path}:${path}`;
  });
  after(async () => {
    process.env["PATH"] = path;
    await directory[Symbol.asyncDispose]();
  });

  /** Asks a helper that is this shell script. */
  async function ask(script: string, signal = AbortSignal.timeout(60_000), options = {}) {
    const file = join(directory.path, "docker-credential-test");
    await writeFile(file, `#!/bin/sh\n${script}\n`);
    await chmod(file, 0o700);
    const credentials = await askCredentialHelper("test", server, signal, options);
    switch (credentials?.kind) {
      case "password":
        return [credentials.username, credentials.password.reveal()];
      case "identity-token":
      case "registry-token":
        return [credentials.kind, credentials.token.reveal()];
      case undefined:
        return undefined;
    }
  }

  function fails(promise: Promise<unknown>, message: RegExp) {
    return assert.rejects(promise, (error) => {
      assert.ok(error instanceof UnavailableError, String(error));
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /c4n4ry/);
      return true;
    });
  }

  test("gives what the helper knows of the server, which it is told by standard input alone", async () => {
    const script = `[ "$*" = get ] && echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"$(cat)\\",\\"ServerURL\\":\\"x\\"}"`;
    assert.deepEqual(await ask(script), ["u", server]);
  });

  test("takes an identity token for what it is", async () => {
    assert.deepEqual(await ask(`echo '{"Username":"<token>","Secret":"t"}'`), ["identity-token", "t"]);
  });

  test("has nothing where the helper has nothing", async () => {
    assert.equal(await ask("echo 'credentials not found in native keychain'; exit 1"), undefined);
    assert.equal(await ask(`echo '{"Username":"","Secret":""}'`), undefined);
  });

  test("tells what is wrong with a helper, and nothing that it said", async () => {
    await fails(ask("echo c4n4ry; exit 3"), /from docker-credential-test: it exited with code 3$/);
    await fails(ask("echo c4n4ry"), /its answer is no JSON object/);
    await fails(ask(`echo '{"Username":"u","Secret":["c4n4ry"]}'`), /its answer is no JSON object/);
    await fails(ask("kill -9 $$"), /it was ended by a signal$/);
    await fails(ask("exec head -c 100000 /dev/zero"), /its answer is longer than 65536 bytes$/);
    await fails(
      askCredentialHelper("absent", server, AbortSignal.timeout(60_000)),
      /no such program on PATH$/,
    );
  });

  test("repeats what a failing helper says to its own user alone", async () => {
    const asking = ask("echo the keychain is locked; exit 3", undefined, { repeatWords: true });
    await fails(asking, /it exited with code 3: the keychain is locked$/);
  });

  test("ends a helper that does not end", async () => {
    const fifo = join(directory.path, "alive");
    await promisify(execFile)("mkfifo", [fifo]);
    const limit = new AbortController();
    // The helper holds the pipe open for as long as it lives.
    const asking = ask(`exec 3>${fifo}; echo here >&3; exec sleep 1000`, limit.signal);
    const alive = createReadStream(fifo);
    await once(alive, "data");
    limit.abort();
    await fails(asking, /it could not be run/);
    await once(alive, "end");
  });
});
