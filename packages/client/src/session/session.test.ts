import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { mkdir, mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Health } from "@oci-worker/api/grpc/health";
import { Auth } from "@oci-worker/api/session/auth";
import { Secrets } from "@oci-worker/api/session/secrets";
import { Secret } from "@oci-worker/credentials/secret";
import { directoryTree } from "@oci-worker/fsutil/directory-tree";
import { FileSendPackets } from "@oci-worker/fsutil/file-send";
import { calling } from "@oci-worker/fsutil/packet-stream";
import { sendTree } from "@oci-worker/fsutil/send";
import { definitionOf, scratch } from "@oci-worker/llb/build";
import type { BuildOptions } from "../build/build.ts";
import { credentialsFor } from "../credentials/credentials.ts";
import type { FakeBuild, FakeDaemonOptions } from "../fake-daemon/fake-daemon.ts";
import { withDaemon } from "../fake-daemon/with-daemon.ts";

const definition = definitionOf(scratch);

describe("the session", () => {
  /** Runs `use` as a daemon that has the session of a build. */
  async function withSession(options: BuildOptions, use: (build: FakeBuild) => Promise<void>): Promise<void> {
    const daemon: FakeDaemonOptions = {
      build: async (build) => {
        await use(build);
        return {};
      },
    };
    await withDaemon(daemon, async ({ client, directory }) => {
      await client.solve(definition, { seedDirectory: join(directory, "seeds"), ...options }).result;
    });
  }

  test("names each of its methods in a header field of its own", async () => {
    await withSession({ sessionName: "naïve" }, ({ session }) => {
      assert.deepEqual(session.methods, [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/moby.filesync.v1.Auth/Credentials",
        "/moby.filesync.v1.Auth/FetchToken",
        "/moby.filesync.v1.Auth/GetTokenAuthority",
        "/moby.filesync.v1.Auth/VerifyTokenAuthority",
      ]);
      assert.equal(session.name, "na?ve");
      return Promise.resolve();
    });
  });

  test("answers health checks", async () => {
    await withSession({}, async ({ session }) => {
      assert.equal((await createClient(Health, session.channel).check({})).status, 1);
    });
  });

  test("lends credentials for the host they are for, and no others", async () => {
    const credentials = credentialsFor("r.example", {
      kind: "password",
      username: "me",
      password: new Secret("pw"),
    });
    await withSession({ credentials }, async ({ session }) => {
      const auth = createClient(Auth, session.channel);
      const own = await auth.credentials({ Host: "r.example" });
      assert.deepEqual([own.Username, own.Secret], ["me", "pw"]);
      const other = await auth.credentials({ Host: "other.example" });
      assert.deepEqual([other.Username, other.Secret], ["", ""]);
    });
  });

  test("proves an identity with a key that is another one for each daemon, host and password", async () => {
    const [salt, payload] = [Buffer.from("daemon"), Buffer.from("prove it")];
    const keys = new Set<string>();
    const directory = await mkdtempDisposable(join(tmpdir(), "seeds-"));
    for (const password of ["one", "two", "one"]) {
      const credentials = credentialsFor("r.example", {
        kind: "password",
        username: "me",
        password: new Secret(password),
      });
      await withSession({ credentials, seedDirectory: directory.path }, async ({ session }) => {
        const auth = createClient(Auth, session.channel);
        const { PublicKey: key } = await auth.getTokenAuthority({ Host: "r.example", Salt: salt });
        const request = { Host: "r.example", Salt: salt, Payload: payload };
        const { Signed: signed } = await auth.verifyTokenAuthority(request);
        assert.deepEqual(Buffer.from(signed.subarray(64)), payload);
        const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key]);
        const publicKey = createPublicKey({ key: spki, format: "der", type: "spki" });
        assert(verify(null, payload, publicKey, signed.subarray(0, 64)));
        keys.add(Buffer.from(key).toString("hex"));
        const elsewhere = await auth.getTokenAuthority({ Host: "r.example", Salt: Buffer.from("other") });
        assert.notDeepEqual(elsewhere.PublicKey, key);
      });
    }
    await directory.remove();
    assert.equal(keys.size, 2);
  });

  test("gives the secrets of a build, and none that it does not know", async () => {
    const secrets = (id: string) => Promise.resolve(id === "token" ? Buffer.from("s3cret") : undefined);
    await withSession({ secrets }, async ({ session }) => {
      const client = createClient(Secrets, session.channel);
      const { data } = await client.getSecret({ ID: "token" });
      assert.equal(Buffer.from(data).toString(), "s3cret");
      await assert.rejects(client.getSecret({ ID: "other" }), (error) => {
        assert(error instanceof ConnectError);
        assert.equal(error.code, Code.NotFound);
        return true;
      });
    });
  });

  test("has no secrets service if the build has no secrets", async () => {
    await withSession({}, async ({ session }) => {
      await assert.rejects(createClient(Secrets, session.channel).getSecret({ ID: "x" }), /does not have it/);
    });
  });

  test("takes the result of a build into a directory", async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), "output-"));
    const from = join(dir.path, "from");
    await mkdir(join(from, "etc"), { recursive: true });
    await writeFile(join(from, "etc/motd"), "hello\n");
    const daemon: FakeDaemonOptions = {
      build: async ({ request, session, returned }) => {
        assert.deepEqual(
          request.Exporters.map(({ Type }) => Type),
          ["local"],
        );
        assert.equal(request.ExporterDeprecated, "local");
        await returned;
        const client = createClient(FileSendPackets, session.channel);
        await calling(
          (outgoing, signal) => client.diffCopy(outgoing, { signal }),
          (stream) => sendTree(stream, directoryTree(from)),
        );
        return {};
      },
    };
    await withDaemon(daemon, async ({ client }) => {
      const directory = join(dir.path, "to");
      const { received } = await client.solve(definition, { output: { type: "local", directory } }).result;
      assert.deepEqual(received, { entries: 2, contentBytes: 6, skippedXattrs: [] });
      assert.deepEqual(await readdir(directory), ["etc"]);
      assert.equal(await readFile(join(directory, "etc/motd"), "utf8"), "hello\n");
    });
  });
});
