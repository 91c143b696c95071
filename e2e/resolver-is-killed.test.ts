import assert from "node:assert/strict";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { credentialsFor } from "@oci-worker/client/credentials";
import { Secret } from "@oci-worker/credentials/secret";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { parseReference } from "@oci-worker/oci/reference";
import { RegistryClient } from "@oci-worker/registry/client";
import { SourceClient } from "@oci-worker/sources/source-client";
import { createImage, pushImage } from "./peers/image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startResolver } from "./peers/resolver.ts";
import { startSessionService } from "./peers/session-service.ts";
import { startTokenServer } from "./peers/token-server.ts";
import { startWorker } from "./peers/worker.ts";

const user = { username: "user", secret: "right-c4n4ry" };
const users = { user: { password: user.secret, repositories: ["team/app"] } };

/** The process of the program `name` that the process `parent` has started. */
async function childOf(parent: number, name: string): Promise<number> {
  const children = await readFile(`/proc/${parent}/task/${parent}/children`, "utf8");
  for (const pid of children.trim().split(" ")) {
    if ((await readFile(`/proc/${pid}/cmdline`, "utf8")).includes(name)) {
      return Number(pid);
    }
  }
  throw new Error(`process ${parent} has no child ${name}, but ${children}`);
}

test("a build whose resolver is killed while it asks for a token goes on with the next one", async () => {
  await using tokens = await startTokenServer({ users });
  await using registry = await startRegistry({ access: tokens.access });
  await using sessions = await startSessionService({ one: user });
  {
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = new RegistryClient();
    const reference = parseReference(`${registry.host}/team/app:1`);
    const source = await resolver.sources.sourceOf(reference, () => ["one"], "push");
    await pushImage(
      registries.repository(source),
      await createImage({ files: { "/hello": "hello\n" } }),
      "1",
    );
  }
  await using worker = await startWorker();
  const before = await childOf(worker.process.pid, "resolver");
  let kills = 0;
  tokens.interfere = () => {
    if (kills === 0) {
      kills += 1;
      // The request that is being answered is its own, so a call of the worker is in flight.
      process.kill(before, "SIGKILL");
    }
    return false;
  };
  const credentials = credentialsFor(registry.host, {
    kind: "password",
    username: user.username,
    password: new Secret(user.secret),
  });
  const tree = run({
    root: image(parseReference(`${registry.host}/team/app:1`)),
    args: ["cat", "/hello"],
    env: ["PATH=/bin"],
  }).root;
  const build = worker.client.solve(definitionOf(tree), { credentials });
  let output = "";
  for await (const { logs } of build.status) {
    output += logs.map(({ data }) => Buffer.from(data).toString()).join("");
  }
  await build.result;
  assert.equal(output, "hello\n");
  assert.equal(kills, 1);
  assert.notEqual(await childOf(worker.process.pid, "resolver"), before);
});

test("reads go on while the resolver is killed and started again", async () => {
  await using tokens = await startTokenServer({ users, lifetimeSeconds: 1 });
  await using registry = await startRegistry({ access: tokens.access });
  await using sessions = await startSessionService({ one: user });
  await using directory = await mkdtempDisposable(join(tmpdir(), "resolver-"));
  const address = join(directory.path, "resolver.sock");
  const options = { address, sessionAddress: sessions.address };
  await using undo = new AsyncDisposableStack();
  let resolver = undo.use(await startResolver(options));
  const channel = undo.use(unixChannel(address, { patienceMs: 60_000 }));
  const client = new SourceClient(channel);
  const registries = undo.use(new RegistryClient());
  const reference = parseReference(`${registry.host}/team/app:1`);
  const pushing = await client.sourceOf(reference, () => ["one"], "push");
  const small = await createImage();
  await pushImage(registries.repository(pushing), small, "1");
  const [layer] = JSON.parse(small.manifest.toString()).layers;
  const [blob] = small.layers;
  assert.ok(blob !== undefined);

  const source = await client.sourceOf(reference, () => ["one"], "pull");
  const repository = registries.repository(source);
  let reads = 0;
  const read = async () => {
    const offset = (reads * 4099) % (blob.length - 100);
    reads += 1;
    const chunks: Buffer[] = [];
    for await (const chunk of repository.fetchBlob({ ...layer, offset, length: 100 })) {
      chunks.push(chunk);
    }
    assert.deepEqual(Buffer.concat(chunks), blob.subarray(offset, offset + 100));
  };
  await read();
  for (let restarts = 0; restarts < 3; restarts += 1) {
    await resolver.process.kill();
    const requestsBefore = tokens.requests.length;
    // With nobody to ask, the old header serves, or the read waits.
    const reading = Array.from({ length: 8 }, read);
    resolver = undo.use(await startResolver(options));
    await Promise.all(reading);
    // Until a token of the new resolver has been needed.
    while (tokens.requests.length === requestsBefore) {
      await read();
    }
  }
  assert.ok(reads > 24);
});
