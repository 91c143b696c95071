import assert from "node:assert/strict";
import { chmod, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { HttpClient } from "@oci-worker/registry/http";
import { pino } from "pino";
import { StaticKeychain } from "./static.ts";
import { parseStaticEntries } from "./static-entries.ts";

async function scene(entries: (directory: string) => unknown) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "static-")));
  const http = undo.use(new HttpClient());
  const lines: string[] = [];
  const log = pino({ level: "trace" }, { write: (line: string) => lines.push(line) });
  const keychain = new StaticKeychain(parseStaticEntries(entries(directory.path)), { http }, log);
  const owned = undo.move();
  return {
    lines,
    async write(name: string, text: string, mode = 0o600): Promise<void> {
      await writeFile(join(directory.path, name), text);
      await chmod(join(directory.path, name), mode);
    },
    async found(host = "r.example", reference = "r.example/team/app:1"): Promise<string[]> {
      const texts: string[] = [];
      for await (const each of keychain.identities({ host, reference }, AbortSignal.timeout(60_000))) {
        texts.push("obstacle" in each ? each.obstacle.message : (each.basic?.reveal() ?? "no password"));
      }
      return texts;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const basic = (text: string) => `Basic ${Buffer.from(text).toString("base64")}`;

describe("the static keychain", () => {
  test("has the secret that stands in the file now", async () => {
    await using it = await scene((dir) => [
      { registry: "r.example", username: "u", passwordFile: join(dir, "password") },
    ]);
    assert.match(
      (await it.found())[0] ?? "",
      /^Cannot use the credentials for r\.example: there is no file \//,
    );
    for (const password of ["one", "two words"]) {
      await it.write("password", `${password}\n`);
      assert.deepEqual(await it.found(), [basic(`u:${password}`)]);
    }
    assert.deepEqual(await it.found("other.example"), []);
    assert.deepEqual(it.lines, []);
  });

  test("has identity tokens and registry tokens, and the entry that says most comes first", async () => {
    await using it = await scene((dir) => [
      { registry: "*.example", identityTokenFile: join(dir, "identity") },
      { registry: "r.example", registryTokenFile: join(dir, "registry") },
      { registry: "r.example/team", username: "u", passwordFile: join(dir, "password") },
    ]);
    await it.write("identity", "i");
    await it.write("registry", "r");
    await it.write("password", "p");
    assert.deepEqual(await it.found(), [basic("u:p"), "no password", "no password"]);
    assert.deepEqual(await it.found("r.example", "r.example/other:1"), ["no password", "no password"]);
  });

  test("warns of a secret that everybody may read", async () => {
    await using it = await scene((dir) => [
      { registry: "r.example", username: "u", passwordFile: join(dir, "password") },
    ]);
    await it.write("password", "c4n4ry", 0o644);
    assert.equal((await it.found()).length, 1);
    const { level, mode, msg } = JSON.parse(it.lines[0] ?? "");
    assert.deepEqual([level, mode, msg], [40, "644", "everybody may read this secret"]);
    assert.doesNotMatch(it.lines.join(), /c4n4ry/);
  });

  test("tells of a file that holds no secret, without showing it", async () => {
    await using it = await scene((dir) => [
      { registry: "r.example", username: "u", passwordFile: join(dir, "password") },
    ]);
    for (const text of ["", "\n", "c4n4ry\nc4n4ry\n", "c4n4ry\0"]) {
      await it.write("password", text);
      const [obstacle = ""] = await it.found();
      assert.match(obstacle, /^Cannot use \/.*\/password: want one line with the secret and nothing else$/);
    }
  });
});

test("the entries of the static keychain are checked", () => {
  const good = { registry: "r.example", username: "u", passwordFile: "/p" };
  assert.equal(parseStaticEntries([good])[0]?.secretFile, "/p");
  assert.deepEqual(parseStaticEntries(undefined), []);
  const cases: [entries: unknown, message: RegExp][] = [
    [{}, /static is \{\}, want a list of tables/],
    [[5], /static\[0\] is 5, want a table/],
    [
      [{ ...good, password: "c4n4ry" }],
      /unknown key "password", want passwordFile \(or another of registry, username, passwordFile/,
    ],
    [[good, { registry: "r" }], /static\[1\] is \["registry"\], want one of passwordFile, identityTokenFile/],
    [[{ ...good, identityTokenFile: "/i" }], /static\[0\] is .*, want one of passwordFile/],
    [[{ ...good, username: undefined }], /static\[0\]\.username is nothing, want a name/],
    [[{ ...good, username: "u:x" }], /static\[0\]\.username is "u:x", want a name without colon/],
    [[{ registry: "r", username: "u", identityTokenFile: "/i" }], /static\[0\]\.username is "u"/],
    [[{ ...good, registry: "a b" }], /static\[0\]\.registry is "a b", want a host/],
    [[{ ...good, registry: undefined }], /static\[0\]\.registry is nothing/],
    [[{ ...good, passwordFile: "" }], /static\[0\]\.passwordFile is "", want a text/],
  ];
  for (const [entries, message] of cases) {
    assert.throws(
      () => parseStaticEntries(entries),
      (error) => {
        assert.ok(error instanceof InvalidArgumentError);
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /c4n4ry/);
        return true;
      },
    );
  }
});
