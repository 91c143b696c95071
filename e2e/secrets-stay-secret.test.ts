import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { formatReference, parseReference } from "@oci-worker/oci/reference";
import { RegistryClient } from "@oci-worker/registry/client";
import { createImage, pushImage } from "./peers/image.ts";
import { pushTo, user } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startResolver } from "./peers/resolver.ts";
import { startTokenServer } from "./peers/token-server.ts";
import { startWorker } from "./peers/worker.ts";

const ociw = join(import.meta.dirname, "../services/ociw/bin/ociw");

/** Passwords that nobody else has. */
const secrets = {
  wrong: "wrong-c4n4ry",
  tokenUser: "token-user-c4n4ry",
  identity: "identity-c4n4ry",
  helper: "helper-c4n4ry",
};

/** Every text by which one of `values` could be known, such as the value of a Basic header. */
function spellings(name: string, values: readonly string[]): string[] {
  return values.flatMap((value) => [
    value,
    encodeURIComponent(value),
    Buffer.from(`${name}:${value}`).toString("base64"),
    Buffer.from(value).toString("base64").replace(/=+$/, ""),
  ]);
}

/** The names of the files beneath `directory` that hold one of `texts`. */
async function filesWith(directory: string, texts: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) {
      const path = join(entry.parentPath, entry.name);
      const bytes = await readFile(path);
      if (texts.some((text) => bytes.includes(text))) {
        found.push(path);
      }
    }
  }
  return found;
}

/** Runs ociw with its password on standard input, and gives all that it has written, with how it was started. */
async function runOciw(address: string, dockerConfig: string, args: readonly string[], password: string) {
  const child = spawn(ociw, ["--addr", address, ...args], {
    env: { PATH: process.env["PATH"], DOCKER_CONFIG: dockerConfig },
  });
  const written: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => written.push(chunk.toString()));
  }
  child.stdin.end(password);
  const [code] = (await once(child, "close")) as [number | null];
  return { code, written: written.join("") };
}

test("no secret of a whole run is in a log, an error, an argument or a file of ours", async () => {
  await using tokens = await startTokenServer({
    hasOAuth: true,
    users: {
      alice: { password: secrets.tokenUser, identityToken: secrets.identity, repositories: ["team/app"] },
    },
  });
  await using withPassword = await startRegistry({ access: { kind: "password", ...user } });
  await using withTokens = await startRegistry({ access: tokens.access });
  await using worker = await startWorker({ args: ["--log-level", "trace"] });
  await using client = await mkdtempDisposable(join(tmpdir(), "docker-"));
  const image = await createImage({ files: { "/hello": "hello\n" } });
  const first = formatReference(await pushTo(withPassword, image));
  const second = `${withTokens.host}/team/app:1`;
  const outputs: string[] = [];
  const run = async (reference: string, name: string, password: string, want: number) => {
    const flags = ["run", "--username", name, "--password-stdin", reference, "--", "cat", "/hello"];
    const { code, written } = await runOciw(worker.address, client.path, flags, password);
    assert.equal(code, want, written);
    outputs.push(written);
  };
  await run(first, user.username, secrets.wrong, 1);
  await run(first, user.username, user.password, 0);
  // A token server that repeats what it was sent, refuses, and fails, each in front of the same client.
  for (const [status, password] of [
    [401, secrets.wrong],
    [500, secrets.tokenUser],
  ] as const) {
    tokens.interfere = (response) => {
      response.writeHead(status, { "x-echo": password }).end(password);
      return true;
    };
    await run(second, "alice", password, 1);
  }
  tokens.interfere = undefined;
  {
    await using resolver = await startResolver({ environment: { DOCKER_CONFIG: client.path } });
    const auth = Buffer.from(`alice:${secrets.tokenUser}`).toString("base64");
    await writeFile(
      join(client.path, "config.json"),
      JSON.stringify({ auths: { [withTokens.host]: { auth } } }),
    );
    using registries = new RegistryClient();
    const source = await resolver.sources.sourceOf(parseReference(second), () => [], "push");
    await pushImage(registries.repository(source), image, "1");
    outputs.push(...resolver.log);
  }
  await run(second, "alice", secrets.tokenUser, 0);

  const known = [
    ...spellings(user.username, [user.password, secrets.wrong]),
    ...spellings("alice", [secrets.tokenUser, secrets.identity]),
    ...tokens.issued,
    ...tokens.issued.map((token) => token.split(".")[2] ?? token),
  ];
  assert.ok(tokens.issued.length >= 2);
  const written = [...outputs, ...worker.process.log].join("\n");
  assert.ok(written.includes('"level":10') || written.includes('"level":20'), "nothing was logged in detail");
  assert.deepEqual(
    known.filter((text) => written.includes(text)),
    [],
  );
  assert.deepEqual(await filesWith(worker.directory, known), []);
});

test("a credential helper is told nothing by its arguments, and leaves no core file", async () => {
  await using registry = await startRegistry({ access: { kind: "password", ...user } });
  await using directory = await mkdtempDisposable(join(tmpdir(), "docker-"));
  const [seen, helper] = [join(directory.path, "seen"), join(directory.path, "docker-credential-test")];
  const answer = JSON.stringify({ Username: user.username, Secret: user.password });
  await writeFile(
    helper,
    `#!/bin/sh\ncat >/dev/null\necho "$*; $(ulimit -c); $(ulimit -Hc)" >'${seen}'\nenv >>'${seen}'\necho '${answer}'\n`,
  );
  await chmod(helper, 0o700);
  await writeFile(join(directory.path, "config.json"), JSON.stringify({ credsStore: "test" }));
  await using resolver = await startResolver({
    environment: { DOCKER_CONFIG: directory.path, PATH: `${directory.path}:${process.env["PATH"]}` },
  });
  using registries = new RegistryClient();
  const reference = parseReference(`${registry.host}/test/image:1`);
  const source = await resolver.sources.sourceOf(reference, () => [], "push");
  await pushImage(registries.repository(source), await createImage(), "1");

  const told = await readFile(seen, "utf8");
  assert.equal(told.split("\n", 1)[0], "get; 0; 0");
  assert.ok(!told.includes(user.password));
  const limits = await readFile(`/proc/${resolver.process.pid}/limits`, "utf8");
  assert.match(limits, /^Max core file size +0 +0 +bytes/m);
});
