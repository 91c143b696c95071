import assert from "node:assert/strict";
import { chmod, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { inspect } from "node:util";
import { type Credentials, dockerHubHost } from "@oci-worker/credentials/credentials";
import { InvalidArgumentError, UnavailableError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { dockerConfig } from "./docker-config.ts";

const basic = (text: string) => Buffer.from(text).toString("base64");

/** What is found for `host` in a docker config with this content. */
async function find(config: unknown, host: string): Promise<Credentials | undefined> {
  await using dir = await mkdtempDisposable(join(tmpdir(), "docker-config-"));
  await writeFile(
    join(dir.path, "config.json"),
    typeof config === "string" ? config : JSON.stringify(config),
  );
  return await dockerConfig(dir.path).find(host, undefined);
}

/** What is found, with its secrets in the open. */
function revealed(found: Credentials | undefined): string {
  switch (found?.kind) {
    case "password":
      return `${found.username}:${found.password.reveal()}`;
    case "identity-token":
    case "registry-token":
      return `${found.kind} ${found.token.reveal()}`;
    case undefined:
      return "none";
  }
}

describe("the docker config knows", () => {
  const cases: [what: string, config: object, host: string, want: string][] = [
    ["a user and a password", { auths: { "r.io": { auth: basic("me:pw") } } }, "r.io", "me:pw"],
    ["a password with colons", { auths: { "r.io": { auth: basic("me:a:b") } } }, "r.io", "me:a:b"],
    ["a password with NULs at its end", { auths: { "r.io": { auth: basic("me:pw\0\0") } } }, "r.io", "me:pw"],
    ["both written out", { auths: { "r.io": { username: "me", password: "pw" } } }, "r.io", "me:pw"],
    ["a host with a port", { auths: { "r.io:5000": { auth: basic("me:pw") } } }, "r.io:5000", "me:pw"],
    ["no other port of that host", { auths: { "r.io:5000": { auth: basic("me:pw") } } }, "r.io", "none"],
    ["a key that is a URL", { auths: { "https://r.io/v1/": { auth: basic("me:pw") } } }, "r.io", "me:pw"],
    [
      "Docker Hub by docker's key",
      { auths: { "https://index.docker.io/v1/": { auth: basic("me:pw") } } },
      dockerHubHost,
      "me:pw",
    ],
    [
      "Docker Hub by its domain",
      { auths: { "docker.io": { auth: basic("me:pw") } } },
      dockerHubHost,
      "me:pw",
    ],
    [
      "an identity token before a password",
      { auths: { "r.io": { auth: basic("me:pw"), identitytoken: "id" } } },
      "r.io",
      "identity-token id",
    ],
    ["a registry token", { auths: { "r.io": { registrytoken: "rt" } } }, "r.io", "registry-token rt"],
    ["nothing of an empty entry", { auths: { "r.io": {} } }, "r.io", "none"],
    ["nothing of other hosts", { auths: { "r.io": { auth: basic("me:pw") } } }, "x.io", "none"],
    ["nothing without any entries", {}, "r.io", "none"],
  ];
  for (const [what, config, host, want] of cases) {
    test(what, async () => {
      assert.equal(revealed(await find(config, host)), want);
    });
  }

  test("nothing if there is no such file", async () => {
    assert.equal(await dockerConfig("/nonexistent").find("r.io", undefined), undefined);
  });
});

describe("a docker config that is not as docker writes it is refused without showing what is in it:", () => {
  const cases: [what: string, config: unknown][] = [
    ["no JSON", '{"auths":{"r.io":{"auth":"c2VjcmV0'],
    ["a list", ["c2VjcmV0"]],
    ["auths that are none", { auths: "c2VjcmV0" }],
    ["an auth that is no base64 of a pair", { auths: { "r.io": { auth: basic("secret") } } }],
    ["a helper that is a path", { credHelpers: { "r.io": "../secret" } }],
  ];
  for (const [what, config] of cases) {
    test(what, async () => {
      await assert.rejects(find(config, "r.io"), (error) => {
        assert(error instanceof InvalidArgumentError);
        assert.doesNotMatch(error.message, /c2Vjcm|"secret/);
        return true;
      });
    });
  }
});

test("whatever the file holds, the answer is credentials, none, or an InvalidArgumentError", async () => {
  const entry = fc.record(
    { auth: fc.string(), identitytoken: fc.anything(), username: fc.string(), password: fc.string() },
    { requiredKeys: [] },
  );
  const config = fc.oneof(
    fc.json(),
    fc.record({ auths: fc.dictionary(fc.constantFrom("r.io", "x"), entry) }),
  );
  await fc.assert(
    fc.asyncProperty(config, async (content) => {
      await find(content, "r.io").catch((error: unknown) => assert(error instanceof InvalidArgumentError));
    }),
    { numRuns: 200 },
  );
});

describe("a credential helper", () => {
  /** Puts a helper `name` that runs `script` first in PATH while `use` runs. */
  async function withHelper(name: string, script: string, use: () => Promise<void>): Promise<void> {
    await using dir = await mkdtempDisposable(join(tmpdir(), "helpers-"));
    const path = join(dir.path, `docker-credential-${name}`);
    await writeFile(path, `#!/bin/sh\n${script}\n`);
    await chmod(path, 0o755);
    const before = process.env["PATH"];
    process.env["PATH"] = `${dir.path}:${before}`;
    try {
      await use();
    } finally {
      process.env["PATH"] = before;
    }
  }

  const answer = `test "$1" = get && server=$(cat) && printf '{"ServerURL":"%s","Username":"me","Secret":"for %s"}' "$server" "$server"`;

  test("is asked for the registries that are its own", async () => {
    await withHelper("some", answer, async () => {
      const config = { credHelpers: { "r.io": "some" }, auths: { "x.io": { auth: basic("x:y") } } };
      assert.equal(revealed(await find(config, "r.io")), "me:for r.io");
      assert.equal(revealed(await find(config, "x.io")), "x:y");
    });
  });

  test("is asked for every registry if it is the store, for Docker Hub by docker's key", async () => {
    await withHelper("store", answer, async () => {
      const config = { credsStore: "store" };
      assert.equal(revealed(await find(config, "r.io")), "me:for r.io");
      assert.equal(revealed(await find(config, dockerHubHost)), "me:for https://index.docker.io/v1/");
    });
  });

  test("that knows nothing leaves it to the file", async () => {
    await withHelper("none", "echo 'credentials not found in native keychain'; exit 1", async () => {
      const config = { credsStore: "none", auths: { "r.io": { auth: basic("me:pw") } } };
      assert.equal(revealed(await find(config, "r.io")), "me:pw");
    });
  });

  test("may give an identity token", async () => {
    await withHelper("id", `printf '{"Username":"<token>","Secret":"abc"}'`, async () => {
      assert.equal(revealed(await find({ credsStore: "id" }, "r.io")), "identity-token abc");
    });
  });

  test("that fails is told by its name and its words", async () => {
    await withHelper("bad", "echo 'the keychain is locked'; exit 3", async () => {
      await assert.rejects(find({ credsStore: "bad" }, "r.io"), (error) => {
        assert(error instanceof UnavailableError);
        assert.match(error.message, /docker-credential-bad: it exited with code 3: the keychain is locked/);
        return true;
      });
    });
  });

  test("that answers too much is stopped", async () => {
    await withHelper("much", "exec yes", async () => {
      await assert.rejects(find({ credsStore: "much" }, "r.io"), /its answer is longer than 65536 bytes/);
    });
  });

  test("that is not installed is told", async () => {
    await assert.rejects(find({ credsStore: "absent" }, "r.io"), /there is no such program on PATH/);
  });

  test("that hangs ends with the caller's patience", async () => {
    await withHelper("slow", "exec sleep 1000", async () => {
      await using dir = await mkdtempDisposable(join(tmpdir(), "docker-config-"));
      await writeFile(join(dir.path, "config.json"), JSON.stringify({ credsStore: "slow" }));
      const abort = new AbortController();
      const finding = dockerConfig(dir.path).find("r.io", abort.signal);
      abort.abort();
      await assert.rejects(finding, UnavailableError);
    });
  });
});

test("credentials that are printed show no secret", async () => {
  const found = await find({ auths: { "r.io": { auth: basic("me:hunter2") } } }, "r.io");
  assert.match(revealed(found), /hunter2/);
  for (const text of [
    inspect(found),
    JSON.stringify(found),
    `${found?.kind === "password" && found.password}`,
  ]) {
    assert.doesNotMatch(text, /hunter2/);
    assert.match(text, /\[secret\]/);
  }
});
