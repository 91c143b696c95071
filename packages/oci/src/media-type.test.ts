import assert from "node:assert/strict";
import { test } from "node:test";
import {
  dockerIndex,
  dockerLayerGzip,
  dockerManifest,
  imageDocumentTypes,
  isIndex,
  isManifest,
  layerType,
  ociIndex,
  ociLayer,
  ociLayerZstd,
  ociManifest,
} from "./media-type.ts";

test("OCI and Docker name the same kinds of document", () => {
  assert.deepEqual([ociIndex, dockerIndex, ociManifest, dockerManifest].map(isIndex), [
    true,
    true,
    false,
    false,
  ]);
  assert.deepEqual([ociIndex, dockerIndex, ociManifest, dockerManifest].map(isManifest), [
    false,
    false,
    true,
    true,
  ]);
  assert.ok(imageDocumentTypes.every((type) => isIndex(type) || isManifest(type)));
});

test("a layer type says how the layer is compressed and whether registries host it", () => {
  assert.deepEqual(layerType(ociLayer), { compression: "none", distributable: true });
  assert.deepEqual(layerType(ociLayerZstd), { compression: "zstd", distributable: true });
  assert.deepEqual(layerType(dockerLayerGzip), { compression: "gzip", distributable: true });
  assert.deepEqual(layerType("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), {
    compression: "gzip",
    distributable: false,
  });
  assert.deepEqual(layerType("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"), {
    compression: "zstd",
    distributable: false,
  });
});

test("what is no layer has no layer type", () => {
  for (const mediaType of ["", ociManifest, "application/vnd.in-toto+json", `${ociLayer}+br`, "toString"]) {
    assert.equal(layerType(mediaType), undefined);
  }
});
