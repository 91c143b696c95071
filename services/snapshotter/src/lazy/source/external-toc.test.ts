import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Digest, digestOf } from "@oci-worker/oci/digest";
import { ociIndex, ociLayerGzip, ociManifest } from "@oci-worker/oci/media-type";
import { hostPlatform } from "@oci-worker/oci/platform";
import { parseReference } from "@oci-worker/oci/reference";
import { RegistryClient } from "@oci-worker/registry/client";
import { type SampleRegistry, sampleRegistry } from "../sample-registry.ts";
import { readExternalToc } from "./external-toc.ts";

const patient = new AbortController().signal;
const digest = digestOf(Buffer.from("the layer"));
const toc = Buffer.from("its table of contents");

/** A manifest with one layer, which is about the layer `about`. */
function manifestAbout(about: Digest, blob = toc): Buffer {
  const annotations = { "containerd.io/snapshot/stargz/layer.digest": about };
  const described = { mediaType: ociLayerGzip, digest: digestOf(blob), size: blob.length };
  const config = { mediaType: "application/vnd.oci.image.config.v1+json", digest, size: 2 };
  return json({
    schemaVersion: 2,
    mediaType: ociManifest,
    config,
    layers: [described, { ...described, annotations }],
  });
}

function json(document: object): Buffer {
  return Buffer.from(JSON.stringify(document));
}

/** Reads it as of an image with that name. */
async function read(registry: SampleRegistry, name: string, maxBytes = 1000): Promise<string> {
  using client = new RegistryClient();
  const { host } = registry;
  const repository = client.repository({
    hosts: [{ scheme: "http", host, path: "/v2", capabilities: ["pull", "resolve"] }],
    repository: "app",
  });
  const images = [{ reference: parseReference(name), repository }];
  return (await readExternalToc({ digest, images }, maxBytes, patient)).toString();
}

describe("readExternalToc", () => {
  test("finds it by the tag and the digest of the layer", async () => {
    await using registry = await sampleRegistry({ [digestOf(toc)]: toc });
    registry.manifests.set("1-esgztoc", manifestAbout(digest));
    registry.manifests.set(digestOf(manifestAbout(digest)), manifestAbout(digest));
    assert.equal(await read(registry, "registry.example/app:1"), toc.toString());
  });

  test("finds it in an index, also where that has it for another platform alone", async () => {
    await using registry = await sampleRegistry({ [digestOf(toc)]: toc });
    const [ours, theirs] = [manifestAbout(digestOf(Buffer.from("another"))), manifestAbout(digest)];
    const entry = (manifest: Buffer, platform: object) => ({
      mediaType: ociManifest,
      digest: digestOf(manifest),
      size: manifest.length,
      platform,
    });
    const index = json({
      schemaVersion: 2,
      mediaType: ociIndex,
      manifests: [entry(ours, hostPlatform), entry(theirs, { os: "linux", architecture: "s390x" })],
    });
    for (const document of [ours, theirs, index]) {
      registry.manifests.set(digestOf(document), document);
    }
    registry.manifests.set("1-esgztoc", index);
    assert.equal(await read(registry, "registry.example/app:1"), toc.toString());
  });

  test("says why there is none", async () => {
    await using registry = await sampleRegistry({ [digestOf(toc)]: toc });
    const refused = (name: string, why: RegExp, maxBytes?: number) =>
      assert.rejects(read(registry, name, maxBytes), { name: "NotFoundError", message: why });
    await refused("registry.example/app:1", /in another image: .*resolve 1-esgztoc of app/);
    await refused(`registry.example/app@${digest}`, /has no tag, by which that is named/);
    const other = manifestAbout(digestOf(Buffer.from("another")));
    registry.manifests.set("1-esgztoc", other);
    registry.manifests.set(digestOf(other), other);
    await refused("registry.example/app:1", /app:1-esgztoc has none for it/);
    const right = manifestAbout(digest);
    registry.manifests.set("1-esgztoc", right);
    registry.manifests.set(digestOf(right), right);
    await refused("registry.example/app:1", /it has 21 bytes, want at most 20/, 20);
    registry.blobs.set(digestOf(toc), Buffer.from("its table of CONTENTS"));
    await refused("registry.example/app:1", /what came has digest sha256:/);
  });
});
