import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { NotFoundError } from "@oci-worker/errdefs";
import { RegistryClient } from "@oci-worker/registry/client";
import { type ContainerdPeer, startContainerd } from "./peers/containerd.ts";
import { startResolver } from "./peers/resolver.ts";

/** A registry that has nothing, under whatever path, so that whoever looks for an image tries every host there is. */
async function emptyRegistry() {
  const requests: string[] = [];
  const server = createServer(({ method, url, headers }, response) => {
    requests.push(`${method} ${url} ${headers["x-team"] ?? ""}`.trim());
    response.writeHead(404).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    /** What it was asked for since the last time. */
    taken: () => requests.splice(0),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** A file that is told from others by what it asks for. containerd 1.6 takes none without a host. */
const toml = (name: string) => `server = "URL/${name}"\n[host."URL/mirror-of-${name}"]`;

/** Files of a folder; URL stands for the registry. Each has an end of its own that is there, so that nothing is asked of the world. */
const folders: { name: string; reference: string; files: Readonly<Record<string, string>> }[] = [
  {
    name: "mirrors with paths, in the order of the file",
    reference: "upstream.invalid/team/app:1",
    files: {
      "upstream.invalid/hosts.toml": `
        server = "URL/server"
        [host."URL/z"]
        [host."URL/a/"]
        [host."URL/b/v2"]
        [host."URL/c//d/../e"]
        [host."URL"]
      `,
    },
  },
  {
    name: "paths that are taken as they are",
    reference: "upstream.invalid/team/app:1",
    files: {
      "upstream.invalid/hosts.toml": `
        server = "URL/server"
        override_path = true
        [host."URL/as/it/is"]
        override_path = true
        [host."URL/x"]
        override_path = false
      `,
    },
  },
  {
    name: "hosts that cannot tell what a tag means",
    reference: "upstream.invalid/team/app:1",
    files: {
      "upstream.invalid/hosts.toml": `
        server = "URL/server"
        [host."URL/pull-only"]
        capabilities = ["pull"]
        [host."URL/both"]
        capabilities = ["pull", "resolve"]
      `,
    },
  },
  {
    name: "headers",
    reference: "upstream.invalid/team/app:1",
    files: {
      "upstream.invalid/hosts.toml": `
        server = "URL/server"
        [host."URL/one"]
        [host."URL/one".header]
        x-team = "build"
        [host."URL/two".header]
        x-team = ["one", "two"]
      `,
    },
  },
  {
    name: "a directory whose name has the port with underscores",
    reference: "upstream.invalid:5000/team/app:1",
    files: {
      "upstream.invalid_5000_/hosts.toml": toml("underscores"),
      "upstream.invalid:5000/hosts.toml": toml("colon"),
    },
  },
  {
    name: "a directory whose name has the port with a colon",
    reference: "upstream.invalid:5000/team/app:1",
    files: {
      "upstream.invalid:5000/hosts.toml": toml("colon"),
      "upstream.invalid/hosts.toml": toml("no-port"),
    },
  },
  {
    name: "the directory for all others",
    reference: "upstream.invalid/team/app:1",
    files: {
      "_default/hosts.toml": toml("default"),
      "other.invalid/hosts.toml": toml("other"),
    },
  },
  {
    name: "Docker Hub",
    reference: "docker.io/library/alpine:3",
    files: { "docker.io/hosts.toml": 'server = "URL/server"\n[host."URL/hub"]' },
  },
];

describe("the resolver asks the hosts that containerd asks, for", () => {
  let containerd: ContainerdPeer;
  before(async () => {
    containerd = await startContainerd();
  });
  after(() => containerd[Symbol.asyncDispose]());

  for (const { name, reference, files } of folders) {
    test(name, async () => {
      await using registry = await emptyRegistry();
      await using folder = await mkdtempDisposable(join(tmpdir(), "certs.d-"));
      for (const [file, text] of Object.entries(files)) {
        const path = join(folder.path, file);
        await mkdir(dirname(path), { recursive: true });
        await writeFile(path, text.replaceAll("URL", registry.url));
      }

      await assert.rejects(
        containerd.ctr("images", "pull", "--hosts-dir", folder.path, reference),
        /not found/,
      );
      const theirs = registry.taken();

      await using resolver = await startResolver({ config: `hostsDir = "${folder.path}"` });
      using registries = new RegistryClient({ delay: () => Promise.resolve() });
      const query = { case: "reference" as const, value: { reference } };
      const [source] = (await resolver.client.resolveSources({ query })).sources;
      assert.ok(source !== undefined);
      const repository = registries.repository(resolver.sources.open(source));
      const tag = reference.slice(reference.lastIndexOf(":") + 1);
      await assert.rejects(repository.resolve({ tag }), NotFoundError);

      assert.ok(theirs.length > 0);
      assert.deepEqual(registry.taken(), theirs);
    });
  }
});
