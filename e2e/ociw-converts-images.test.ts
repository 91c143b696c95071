import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtempDisposable, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { tocDigestOf } from "@oci-worker/estargz/annotations";
import { readChunk } from "@oci-worker/estargz/chunk";
import { blobInMemory, type OpenLayer, openLayer } from "@oci-worker/estargz/open";
import { nodeAt, walk } from "@oci-worker/estargz/tree";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { type Digest, digestOf } from "@oci-worker/oci/digest";
import { parseImageConfig } from "@oci-worker/oci/image-config";
import { type Index, imageLayers, type Manifest, parseImageDocument } from "@oci-worker/oci/manifest";
import { ociConfig, ociIndex, ociManifest } from "@oci-worker/oci/media-type";
import { formatReference } from "@oci-worker/oci/reference";
import { basicAuthorizer } from "@oci-worker/registry/authorizer";
import { RegistryClient } from "@oci-worker/registry/client";
import { upstreamHost } from "@oci-worker/registry/host";
import type { Repository } from "@oci-worker/registry/repository";
import { bytesBody } from "@oci-worker/registry/request";
import { startContainerd } from "./peers/containerd.ts";
import { assembleImage, layerOf, programs, pushImage, type SmallImage } from "./peers/image.ts";
import { pushTo, user } from "./peers/pushed-image.ts";
import { type RegistryPeer, startRegistry } from "./peers/registry.ts";
import { runStargz } from "./peers/stargz.ts";
import { startTokenServer } from "./peers/token-server.ts";

const program = join(import.meta.dirname, "../services/ociw/bin/ociw");

interface Ended {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What is told with --json. */
interface Told {
  readonly reference: string;
  readonly digest: Digest;
  readonly images: readonly {
    readonly platform: string;
    readonly digest: Digest;
    readonly missing: readonly string[];
    readonly layers: readonly {
      readonly digest: Digest;
      readonly diffID: Digest;
      readonly keptBecause?: string;
    }[];
  }[];
  readonly notes: readonly string[];
}

/** A home for the program, with nothing in it. */
async function withHome(use: (home: string) => Promise<void>): Promise<void> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "ociw-converts-"));
  await mkdir(join(directory.path, "tmp"));
  await use(directory.path);
}

function start(home: string, args: readonly string[]) {
  const env = { PATH: process.env["PATH"], DOCKER_CONFIG: join(home, "docker"), TMPDIR: join(home, "tmp") };
  return spawn(program, ["convert", ...args], { env, stdio: ["pipe", "pipe", "pipe"] });
}

/** Runs the program to its end. Whatever that is, no temporary file is left. */
async function ociw(home: string, args: readonly string[], stdin = ""): Promise<Ended> {
  const child = start(home, args);
  child.stdin.end(stdin);
  const [stdout, stderr, [exitCode]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ]);
  assert.deepEqual(await readdir(join(home, "tmp")), []);
  return { exitCode: exitCode as number | null, stdout, stderr };
}

async function converted(home: string, args: readonly string[], stdin = ""): Promise<Told> {
  const { exitCode, stdout, stderr } = await ociw(home, ["--json", ...args], stdin);
  assert.equal(exitCode, 0, stderr);
  return JSON.parse(stdout);
}

/** Several chunks of it. */
const big = Buffer.alloc(150_000, "text that gets smaller ");

const middle: readonly TarMember[] = [
  { type: "directory", name: "data", mode: 0o750, uid: 5, gid: 6, modifiedNs: 1_600_000_000n * 10n ** 9n },
  { type: "file", name: "data/big", content: big },
  { type: "hard link", name: "data/linked", linkName: "data/big" },
  { type: "file", name: "data/gone", content: Buffer.from("gone") },
  { type: "file", name: "data/twice", content: Buffer.from("below") },
  { type: "file", name: "etc/greeting", content: Buffer.from("hello\n") },
];

const top: readonly TarMember[] = [
  { type: "file", name: "data/.wh.gone" },
  { type: "file", name: "data/twice", content: Buffer.from("above") },
];

async function threeLayers(): Promise<SmallImage> {
  return assembleImage([await layerOf(await programs()), await layerOf(middle), await layerOf(top)], {
    Labels: { kept: "yes" },
  });
}

function open(client: RegistryClient, { host }: RegistryPeer, repository: string): Repository {
  const authorizer = basicAuthorizer(host, user.username, user.password);
  return client.repository({ hosts: [upstreamHost(host)], repository, authorizer });
}

async function fetched(repository: Repository, descriptor: Descriptor): Promise<Manifest | Index> {
  return parseImageDocument(await repository.fetchManifest(descriptor), descriptor.mediaType);
}

async function manifestAt(
  repository: Repository,
  name: { tag: string } | { digest: Digest },
): Promise<Manifest> {
  const document = await fetched(repository, await repository.resolve(name));
  assert(document.kind === "manifest");
  return document;
}

async function blobOf(repository: Repository, descriptor: Descriptor): Promise<Buffer> {
  const blob = Buffer.concat(await Array.fromAsync(repository.fetchBlob(descriptor)));
  assert.equal(digestOf(blob), descriptor.digest);
  return blob;
}

/** A layer as it is read in parts, with every chunk of it verified. */
async function readInParts(repository: Repository, descriptor: Descriptor): Promise<OpenLayer> {
  const blob = await blobOf(repository, descriptor);
  const trusted = tocDigestOf(descriptor.annotations ?? {});
  assert(trusted !== undefined);
  const layer = await openLayer(blobInMemory(blob), { trusted });
  assert(layer !== undefined);
  for (const { node } of walk(layer.tree)) {
    for (const chunk of node.type === "file" ? node.chunks : []) {
      readChunk(chunk, layer.compression, blob.subarray(chunk.offset, chunk.offset + chunk.compressedBytes));
    }
  }
  return layer;
}

/** Where in the blob the first chunk of a file is. */
function offsetOf(layer: OpenLayer | undefined, path: string): number {
  const node = layer && nodeAt(layer.tree, path);
  assert(node?.type === "file", path);
  return node.chunks[0]?.offset ?? assert.fail(path);
}

describe("ociw convert", () => {
  for (const format of ["estargz", "zstdchunked"]) {
    test(`makes an image that others pull and run: ${format}`, () =>
      withHome(async (home) => {
        await using registry = await startRegistry();
        const source = formatReference(await pushTo(registry, await threeLayers(), "test/ordinary"));
        const target = `${registry.host}/test/lazy:1`;
        const flags = ["--format", format, "--chunk-size", "64KiB"];
        const told = await converted(home, [...flags, source, target]);
        const again = await converted(home, [...flags, source, `${registry.host}/test/again:1`]);
        assert.deepEqual([told.digest, told.images], [again.digest, again.images]);

        using client = new RegistryClient();
        const repository = open(client, registry, "test/lazy");
        const manifest = await manifestAt(repository, { tag: "1" });
        assert.equal(manifest.mediaType, ociManifest);
        const config = parseImageConfig(await repository.fetchDocument(manifest.config));
        assert.equal(config.labels["kept"], "yes");
        const layers = await Promise.all(
          imageLayers(manifest, config).map(({ blob }) => readInParts(repository, blob)),
        );
        const wanted = format === "estargz" ? "eStargz" : "zstd:chunked";
        assert.deepEqual(
          layers.map((layer) => layer.format),
          [wanted, wanted, wanted],
        );
        const bigFile = nodeAt(layers[1]?.tree ?? assert.fail(), "data/big");
        assert(bigFile?.type === "file" && bigFile.chunks.length === 3);

        await using containerd = await startContainerd();
        const rpull = ["images", "rpull", "--plain-http", "--snapshotter", "overlayfs", target];
        await runStargz(containerd, ...rpull);
        await containerd.ctr("images", "remove", "--sync", target);
        await containerd.ctr("images", "pull", "--plain-http", "--snapshotter", "overlayfs", target);
        const command = "cat /etc/greeting /data/twice; ls /data; cat /data/linked";
        const container = [target, "reader", "sh", "-c", command];
        const said = await containerd.ctr("run", "--rm", "--snapshotter", "overlayfs", ...container);
        assert.equal(said, `hello\nabovebig\nlinked\ntwice\n${big}`);
      }));
  }

  test("puts what was recorded first into the layer that it is read from, and keeps what is converted", () =>
    withHome(async (home) => {
      await using registry = await startRegistry();
      const source = formatReference(await pushTo(registry, await threeLayers(), "test/ordinary"));
      const plain = `${registry.host}/test/ordinary:lazy`;
      const first = await converted(home, [source, plain]);

      const kept = await converted(home, [plain, `${registry.host}/test/kept:1`]);
      assert.equal(kept.digest, first.digest);
      assert(kept.images[0]?.layers.every(({ keptBecause }) => keptBecause?.includes("already")));

      const record = join(home, "record");
      const inMiddle = { path: "etc/greeting", manifestDigest: first.digest, layerIndex: 1 };
      await writeFile(record, `/data/twice\n${JSON.stringify(inMiddle)}\nbin/busybox\nnot/there\n`);
      const told = await converted(home, ["--record", record, plain, `${registry.host}/test/recorded:1`]);
      assert.deepEqual(told.images[0]?.missing, ["not/there"]);

      using client = new RegistryClient();
      const repository = open(client, registry, "test/recorded");
      const { layers } = await manifestAt(repository, { tag: "1" });
      const [base, between, above] = await Promise.all(layers.map((layer) => readInParts(repository, layer)));
      const before = (layer: OpenLayer | undefined, path: string) =>
        offsetOf(layer, path) < (layer?.tree.prefetchBytes ?? 0);
      assert.deepEqual(
        [
          before(base, "bin/busybox"),
          before(between, "etc/greeting"),
          before(between, "data/big"),
          before(between, "data/twice"),
          before(above, "data/twice"),
        ],
        [true, true, false, false, true],
      );
    }));

  test("keeps a layer as it is that no TOC can tell, and says so", () =>
    withHome(async (home) => {
      await using registry = await startRegistry();
      const odd = await layerOf([
        { type: "file", name: Buffer.from([0x61, 0xff]), content: Buffer.from("x") },
      ]);
      const image = assembleImage([await layerOf(await programs()), odd]);
      const source = formatReference(await pushTo(registry, image, "test/odd"));
      const target = `${registry.host}/test/odd-lazy:1`;
      // What cannot be put first there is looked for below.
      const record = join(home, "record");
      await writeFile(record, "bin/busybox\n");
      const { exitCode, stdout, stderr } = await ociw(home, ["--record", record, source, target]);
      assert.equal(exitCode, 0, stderr);
      assert.doesNotMatch(stderr, /no layer for/);
      assert.match(stdout, new RegExp(`^${target}@sha256:[0-9a-f]{64}\n$`));
      assert.match(stderr, /^#\d+ WARNING: kept as it is.* is not UTF-8/m);
      using client = new RegistryClient();
      const repository = open(client, registry, "test/odd-lazy");
      const { layers } = await manifestAt(repository, { tag: "1" });
      assert.equal(layers[1]?.digest, odd.descriptor.digest);
      const base = await readInParts(repository, layers[0] ?? assert.fail());
      assert(offsetOf(base, "bin/busybox") < (base.tree.prefetchBytes ?? 0));
      assert.equal((await blobOf(repository, layers[1] ?? assert.fail())).length, odd.blob.length);
    }));

  test("names a layer that is not what its config says, and puts nothing under the name", () =>
    withHome(async (home) => {
      await using registry = await startRegistry();
      const layer = { ...(await layerOf(middle)), diffID: digestOf("another") };
      const source = formatReference(await pushTo(registry, assembleImage([layer]), "test/lying"));
      const { exitCode, stderr } = await ociw(home, [source, `${registry.host}/test/none:1`]);
      assert.equal(exitCode, 1);
      assert.match(
        stderr,
        new RegExp(`^ociw: Cannot convert layer ${layer.descriptor.digest}: .*want ${layer.diffID}$`, "m"),
      );
      using client = new RegistryClient();
      await assert.rejects(open(client, registry, "test/none").resolve({ tag: "1" }), {
        name: "NotFoundError",
      });
    }));

  test("uses the password of standard input or of docker's config, and tells that one is wrong", () =>
    withHome(async (home) => {
      await using registry = await startRegistry({ access: { kind: "password", ...user } });
      const source = formatReference(await pushTo(registry, await threeLayers(), "test/ordinary"));
      const target = `${registry.host}/test/lazy:1`;
      const given = ["--username", user.username, "--password-stdin", source, target];
      const wrong = await ociw(home, given, "wr0ng-c4n4ry\n");
      assert.equal(wrong.exitCode, 1);
      assert.match(wrong.stderr, /^ociw: Cannot resolve 1 of test\/ordinary from .*: it answered HTTP 401/m);
      assert.doesNotMatch(wrong.stderr, /c4n4ry/);
      const { digest } = await converted(home, given, `${user.password}\n`);

      const auth = Buffer.from(`${user.username}:${user.password}`).toString("base64");
      await mkdir(join(home, "docker"));
      await writeFile(
        join(home, "docker/config.json"),
        JSON.stringify({ auths: { [registry.host]: { auth } } }),
      );
      assert.equal((await converted(home, [source, `${registry.host}/test/other:1`])).digest, digest);
    }));

  test("gets tokens of a token server, for both repositories where one lends the other its blobs", () =>
    withHome(async (home) => {
      const repositories = ["test/ordinary", "test/lazy"];
      await using tokens = await startTokenServer({
        users: { [user.username]: { password: user.password, repositories } },
      });
      await using registry = await startRegistry({ access: tokens.access });
      await using openRegistry = await startRegistry();
      const source = formatReference(await pushTo(openRegistry, await threeLayers(), "test/ordinary"));
      const [first, second] = [`${registry.host}/test/ordinary:1`, `${registry.host}/test/lazy:1`];
      const flags = ["--username", user.username, "--password-stdin"];
      const { digest } = await converted(home, [...flags, source, first], user.password);
      const requests = tokens.requests.length;
      const copy = await converted(home, [...flags, first, second], user.password);
      assert.equal(copy.digest, digest);
      const scopes = tokens.requests.slice(requests).map((request) => request.scopes.join(" "));
      assert(scopes.includes("repository:test/lazy:pull,push repository:test/ordinary:pull"), scopes.join());
      // No blob was sent a second time.
      assert(!registry.log.some((line) => /PUT \/v2\/test\/lazy\/blobs/.test(line)));
    }));

  test("keeps an index an index, builds what its images share once, and leaves out what was said of them", () =>
    withHome(async (home) => {
      await using registry = await startRegistry();
      using client = new RegistryClient();
      const repository = open(client, registry, "test/many");
      const { index, attestation } = await pushIndex(repository);
      const source = `${registry.host}/test/many:1`;
      const { exitCode, stdout, stderr } = await ociw(home, [
        "--json",
        source,
        `${registry.host}/test/many:lazy`,
      ]);
      assert.equal(exitCode, 0, stderr);
      const told: Told = JSON.parse(stdout);
      assert.deepEqual(
        told.images.map(({ platform }) => platform),
        ["linux/amd64", "linux/arm64"],
      );
      assert.equal(told.images[0]?.layers[0]?.digest, told.images[1]?.layers[0]?.digest);
      assert.equal(stderr.match(/^#\d+ layer /gm)?.length, 3);
      assert.match(told.notes.join(), new RegExp(`left out attestation ${attestation.digest}`));

      const made = await fetched(repository, await repository.resolve({ tag: "lazy" }));
      assert(made.kind === "index" && made.mediaType === ociIndex);
      assert.deepEqual(made.annotations, index.annotations);
      assert.deepEqual(
        made.manifests.map(({ platform, digest }) => [platform?.architecture, digest]),
        told.images.map(({ platform, digest }) => [platform.split("/")[1], digest]),
      );

      // Nothing left to do: all stays, down to what is not ours.
      const same = await converted(home, [`${registry.host}/test/many:lazy`, `${registry.host}/test/copy:1`]);
      assert.equal(same.digest, told.digest);

      const one = await converted(home, ["--platform", "linux/arm64", source, `${registry.host}/test/one:1`]);
      assert.deepEqual(
        one.images.map(({ platform }) => platform),
        ["linux/arm64"],
      );
      const none = await ociw(home, ["--platform", "linux/s390x", source, `${registry.host}/test/none:1`]);
      assert.equal(none.exitCode, 1);
      assert.match(none.stderr, /for linux\/s390x: there is none, want linux\/amd64 or linux\/arm64/);
    }));

  test("leaves nothing behind when it is interrupted", () =>
    withHome(async (home) => {
      await using registry = await startRegistry();
      const noise = Buffer.alloc(48 * 1024 * 1024, await readBytes(1_000_003));
      const large = assembleImage([await layerOf([{ type: "file", name: "large", content: noise }])]);
      const source = formatReference(await pushTo(registry, large, "test/large"));
      const child = start(home, ["--level", "9", source, `${registry.host}/test/none:1`]);
      child.stdin.end();
      const ended = Promise.all([text(child.stdout), once(child, "close")]);
      let said = "";
      for await (const chunk of child.stderr) {
        said += chunk;
        // From here on it is a thread that works.
        if (!child.killed && /^#\d+ fetch .* done$/m.test(said)) {
          child.kill("SIGINT");
        }
      }
      const [stdout, [exitCode]] = await ended;
      assert.deepEqual([exitCode, stdout], [130, ""]);
      assert.match(said, /^#\d+ CANCELED$/m);
      assert.deepEqual(await readdir(join(home, "tmp")), []);
      using client = new RegistryClient();
      await assert.rejects(open(client, registry, "test/none").resolve({ tag: "1" }), {
        name: "NotFoundError",
      });
    }));
});

/** Bytes that do not compress. */
async function readBytes(count: number): Promise<Buffer> {
  const { stdout } = await promisify(execFile)("head", ["-c", String(count), "/dev/urandom"], {
    encoding: "buffer",
    maxBuffer: count + 1,
  });
  return stdout;
}

/** Pushes an index of two images with the same base, and an attestation of the first. */
async function pushIndex(repository: Repository): Promise<{ index: Index; attestation: Descriptor }> {
  const base = await layerOf(await programs());
  const entries: object[] = [];
  let first: Descriptor | undefined;
  for (const architecture of ["amd64", "arm64"]) {
    const own = await layerOf([{ type: "file", name: "arch", content: Buffer.from(architecture) }]);
    const image = imageFor(architecture, assembleImage([base, own]));
    const pushed = await pushImage(repository, image, architecture);
    first ??= pushed;
    entries.push({ ...pushed, platform: { os: "linux", architecture } });
  }
  const statement = Buffer.from("{}");
  await repository.pushBlob({ digest: digestOf(statement), body: bytesBody(statement) });
  const described = { mediaType: "application/vnd.in-toto+json", digest: digestOf(statement), size: 2 };
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: ociManifest,
      config: { ...described, mediaType: ociConfig },
      layers: [described],
    }),
  );
  const attestation = await repository.pushManifest({ mediaType: ociManifest, bytes });
  entries.push({
    ...attestation,
    platform: { os: "unknown", architecture: "unknown" },
    annotations: {
      "vnd.docker.reference.type": "attestation-manifest",
      "vnd.docker.reference.digest": first?.digest,
    },
  });
  const document = {
    schemaVersion: 2,
    mediaType: ociIndex,
    manifests: entries,
    annotations: { "org.example.note": "kept" },
  };
  const indexBytes = Buffer.from(JSON.stringify(document));
  await repository.pushManifest({ mediaType: ociIndex, bytes: indexBytes, tag: "1" });
  const index = parseImageDocument(indexBytes, ociIndex);
  assert(index.kind === "index");
  return { index, attestation };
}

/** `image` with a config that says another architecture. */
function imageFor(architecture: string, image: SmallImage): SmallImage {
  const config = Buffer.from(
    JSON.stringify({ ...JSON.parse(image.config.toString()), os: "linux", architecture }),
  );
  const manifest = JSON.parse(image.manifest.toString());
  const described = { ...manifest.config, digest: digestOf(config), size: config.length };
  return { ...image, config, manifest: Buffer.from(JSON.stringify({ ...manifest, config: described })) };
}
