import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "@oci-worker/oci/digest";
import { parseImageConfig } from "@oci-worker/oci/image-config";
import { parseImageDocument } from "@oci-worker/oci/manifest";
import {
  dockerIndex,
  dockerLayerGzip,
  dockerManifest,
  ociIndex,
  ociLayerGzip,
  ociLayerZstd,
  ociManifest,
} from "@oci-worker/oci/media-type";
import { builtDescriptor, newConfig, newIndex, newManifest } from "./documents.ts";

const blob = (name: string, mediaType: string) => ({ mediaType, digest: digestOf(name), size: name.length });
const bytesOf = (document: object) => Buffer.from(JSON.stringify(document));

test("a config gets other diffIDs and keeps all else, what we do not know too", () => {
  const before = {
    os: "linux",
    architecture: "amd64",
    history: [{ created_by: "RUN x" }, { empty_layer: true }],
    rootfs: { type: "layers", diff_ids: [digestOf("old")] },
    future: { kept: true },
  };
  const { bytes, descriptor } = newConfig(parseImageConfig(bytesOf(before)), [digestOf("new")]);
  assert.deepEqual(JSON.parse(bytes.toString()), {
    ...before,
    rootfs: { type: "layers", diff_ids: [digestOf("new")] },
  });
  assert.deepEqual([descriptor.digest, descriptor.size], [digestOf(bytes), bytes.length]);
});

test("a manifest of Docker becomes one of OCI, with OCI's types for the layers that stay", () => {
  const foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
  const document = {
    schemaVersion: 2,
    mediaType: dockerManifest,
    config: blob("config", "application/vnd.docker.container.image.v1+json"),
    layers: [blob("a", dockerLayerGzip)],
    annotations: { note: "kept" },
  };
  const manifest = parseImageDocument(bytesOf(document), dockerManifest);
  assert(manifest.kind === "manifest");
  const config = blob("new config", "c");
  const layers = [blob("a", dockerLayerGzip), blob("b", foreign), blob("c", "x/y")];
  const made = JSON.parse(newManifest(manifest, config, layers).bytes.toString());
  assert.deepEqual([made.mediaType, made.config, made.annotations], [ociManifest, config, { note: "kept" }]);
  assert.deepEqual(
    made.layers.map(({ mediaType }: { mediaType: string }) => mediaType),
    [ociLayerGzip, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "x/y"],
  );
});

test("an index keeps what it says of its images, and those that have no other are left out", () => {
  const platform = { os: "linux", architecture: "amd64", "os.features": ["f"] };
  const document = {
    schemaVersion: 2,
    mediaType: dockerIndex,
    manifests: [
      { ...blob("a", dockerManifest), platform },
      { ...blob("b", dockerManifest), platform },
    ],
  };
  const index = parseImageDocument(bytesOf(document), dockerIndex);
  assert(index.kind === "index");
  const made = newIndex(index, new Map([[1, blob("new", ociManifest)]]));
  assert.deepEqual(JSON.parse(made.bytes.toString()), {
    schemaVersion: 2,
    mediaType: ociIndex,
    manifests: [{ ...blob("new", ociManifest), platform }],
  });
});

test("a layer loses what was said of the TOC of the one before, whoever has made that", () => {
  const before = {
    ...blob("old", ociLayerZstd),
    annotations: {
      "io.github.containers.zstd-chunked.manifest-checksum": "x",
      "io.containers.zstd-chunked.manifest-position": "x",
      "containerd.io/uncompressed": "x",
      "org.example.note": "kept",
    },
  };
  const built = {
    ...blob("new", ociLayerGzip),
    annotations: { "containerd.io/snapshot/stargz/toc.digest": "y" },
  };
  assert.deepEqual(builtDescriptor(before, built), {
    ...built,
    annotations: { "org.example.note": "kept", ...built.annotations },
  });
});
