import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Access } from "@oci-worker/api/ociworker/source";
import { ServiceError } from "@oci-worker/errdefs";
import { RegistryClient } from "@oci-worker/registry/client";
import type { Repository } from "@oci-worker/registry/repository";
import { createAuthority } from "@oci-worker/registry/test-certificates";
import { createImage, pushImage } from "./peers/image.ts";
import { type RegistryPeer, startRegistry } from "./peers/registry.ts";
import { type ResolverPeer, startResolver } from "./peers/resolver.ts";

/** The registry that the mirrors stand in for. Nothing serves it, so what is read is theirs. */
const upstream = "upstream.invalid";

/** Two registries with TLS of a private authority, the second of which wants a certificate of its clients, too. */
async function mirrors() {
  await using undo = new AsyncDisposableStack();
  const authority = undo.use(await createAuthority());
  const server = await authority.issue("server");
  const client = await authority.issue("client");
  const plainTls = undo.use(await startRegistry({ tls: server }));
  const mutualTls = undo.use(await startRegistry({ tls: { ...server, clientCaFile: authority.caFile } }));
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "mirrors-")));
  const owned = undo.move();
  return {
    caFile: authority.caFile,
    client,
    plainTls,
    mutualTls,
    hostsDir: directory.path,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

type Mirrors = Awaited<ReturnType<typeof mirrors>>;

async function open(
  registries: RegistryClient,
  resolver: ResolverPeer,
  reference: string,
  access: Access = Access.PULL,
): Promise<Repository> {
  const { sources } = await resolver.client.resolveSources({
    query: { case: "reference", value: { reference } },
    access,
  });
  const [source] = sources;
  assert.ok(source !== undefined);
  return registries.repository(resolver.sources.open(source));
}

/** Pushes an image to a mirror by its own name. */
async function fill(registries: RegistryClient, resolver: ResolverPeer, { host }: RegistryPeer) {
  const repository = await open(registries, resolver, `${host}/team/app:1`, Access.PUSH);
  return await pushImage(repository, await createImage(), "1");
}

/** What a registry was asked for in the name of another. */
function askedFor({ log }: RegistryPeer): string[] {
  return log.filter((line) => line.includes(`ns=${upstream}`) && line.includes("HTTP/1.1"));
}

/** The same settings in either way of writing them. */
const settings = {
  "buildkitd.toml": async ({ caFile, client, plainTls, mutualTls }: Mirrors) => `
    hostsDir = ""
    [registry."${upstream}"]
    mirrors = ["${plainTls.host}", "${mutualTls.host}"]
    [registry."${plainTls.host}"]
    http = false
    ca = ["${caFile}"]
    [registry."${mutualTls.host}"]
    http = false
    ca = ["${caFile}"]
    [[registry."${mutualTls.host}".keypair]]
    cert = "${client.certFile}"
    key = "${client.keyFile}"
  `,
  "containerd's hosts.toml": async ({ caFile, client, plainTls, mutualTls, hostsDir }: Mirrors) => {
    const tls = `ca = "${caFile}"`;
    const both = `${tls}\nclient = [["${client.certFile}", "${client.keyFile}"]]`;
    const [first, second] = [`https://${plainTls.host}`, `https://${mutualTls.host}`];
    const files = {
      [upstream]: `[host."${first}"]\n${tls}\n[host."${second}"]\n${both}`,
      [plainTls.host]: `server = "${first}"\n${tls}`,
      [mutualTls.host.replace(/:(\d+)$/, "_$1_")]: `server = "${second}"\n${both}`,
    };
    for (const [name, text] of Object.entries(files)) {
      await mkdir(join(hostsDir, name));
      await writeFile(join(hostsDir, name, "hosts.toml"), text);
    }
    return `hostsDir = "${hostsDir}"`;
  },
};

for (const [name, write] of Object.entries(settings)) {
  describe(`mirrors of ${name}`, () => {
    test("are read in their order, each with its own TLS settings, the next where one has nothing or is down", async () => {
      await using peers = await mirrors();
      await using resolver = await startResolver({ config: await write(peers) });
      using registries = new RegistryClient({ delay: () => Promise.resolve() });
      const image = await fill(registries, resolver, peers.mutualTls);
      const resolve = async () =>
        await (await open(registries, resolver, `${upstream}/team/app:1`)).resolve({ tag: "1" });
      assert.deepEqual(await resolve(), image);
      assert.equal(askedFor(peers.plainTls).length, 1);
      assert.equal(askedFor(peers.mutualTls).length, 1);
      await fill(registries, resolver, peers.plainTls);
      await resolve();
      assert.equal(askedFor(peers.mutualTls).length, 1);
      await peers.plainTls.stop();
      assert.deepEqual(await resolve(), image);
      assert.equal(askedFor(peers.mutualTls).length, 2);
    });
  });
}

test("a mirror does not get the TLS settings of the registry that it stands in for", async () => {
  await using peers = await mirrors();
  const { caFile, client, mutualTls } = peers;
  const own = `ca = ["${caFile}"]\n[[registry."NAME".keypair]]\ncert = "${client.certFile}"\nkey = "${client.keyFile}"`;
  const registry = `[registry."${upstream}"]\nmirrors = ["${mutualTls.host}"]\n${own.replace("NAME", upstream)}`;
  const mirror = `[registry."${mutualTls.host}"]\nhttp = false\n`;
  using registries = new RegistryClient({ delay: () => Promise.resolve() });
  const resolve = async (config: string) => {
    await using resolver = await startResolver({ config: `hostsDir = ""\n${config}` });
    return await (await open(registries, resolver, `${upstream}/team/app:1`)).resolve({ tag: "1" });
  };
  await assert.rejects(resolve(`${registry}\n${mirror}`), (error) => error instanceof ServiceError);
  assert.deepEqual(askedFor(mutualTls), []);
  // With an authority and no certificate it is as little.
  const halfway = `${mirror}ca = ["${caFile}"]`;
  await assert.rejects(resolve(`${registry}\n${halfway}`), (error) => error instanceof ServiceError);
  assert.deepEqual(askedFor(mutualTls), []);
  await using filler = await startResolver({
    config: `hostsDir = ""\n${mirror}${own.replace("NAME", mutualTls.host)}`,
  });
  const image = await fill(registries, filler, mutualTls);
  const whole = `${mirror}${own.replace("NAME", mutualTls.host)}`;
  assert.deepEqual(await resolve(`${registry}\n${whole}`), image);
});
