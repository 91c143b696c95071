import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { digestOf } from "./digest.ts";
import { maxDocumentBytes } from "./document.ts";
import { parseImageConfig } from "./image-config.ts";
import { imageLayers, type Manifest, parseImageDocument } from "./manifest.ts";
import { dockerManifest, ociConfig, ociIndex, ociLayerGzip, ociManifest } from "./media-type.ts";

const config = { mediaType: ociConfig, digest: digestOf("config"), size: 100 };
const layer = { mediaType: ociLayerGzip, digest: digestOf("layer"), size: 200 };
const manifest = { schemaVersion: 2, mediaType: ociManifest, config, layers: [layer] };
const index = {
  schemaVersion: 2,
  manifests: [
    {
      mediaType: ociManifest,
      digest: digestOf("m"),
      size: 3,
      platform: { os: "linux", architecture: "arm", variant: "v7" },
    },
  ],
};

function bytes(document: unknown): Buffer {
  return Buffer.from(JSON.stringify(document));
}

function refused(document: unknown, mediaType: string, message: RegExp): void {
  assert.throws(
    () => parseImageDocument(Buffer.isBuffer(document) ? document : bytes(document), mediaType),
    (error) => error instanceof InvalidArgumentError && message.test(error.message),
  );
}

describe("parseImageDocument", () => {
  test("reads a manifest and keeps what it does not know", () => {
    const read = parseImageDocument(bytes({ ...manifest, subject: { a: 1 } }), ociManifest);
    assert.equal(read.kind, "manifest");
    assert.deepEqual([read.config, read.layers], [config, [layer]]);
    assert.deepEqual(read.document["subject"], { a: 1 });
  });

  test("reads an index with the platforms as written", () => {
    const read = parseImageDocument(bytes(index), ociIndex);
    assert.equal(read.kind, "index");
    assert.deepEqual(read.manifests, index.manifests);
  });

  test("takes null, as Go writes an empty list, for nothing", () => {
    const read = parseImageDocument(bytes({ ...manifest, layers: null, annotations: null }), ociManifest);
    assert.deepEqual([read.kind === "manifest" && read.layers, read.annotations], [[], {}]);
  });

  test("refuses what is no image document", () => {
    refused(manifest, "application/vnd.docker.distribution.manifest.v1+prettyjws", /media type/);
    refused(Buffer.from([0xff]), ociManifest, /no JSON/);
    refused(Buffer.from("{"), ociManifest, /no JSON/);
    refused([], ociManifest, /a list, want a JSON object/);
    refused(null, ociManifest, /null, want a JSON object/);
    refused(Buffer.alloc(maxDocumentBytes + 1, " "), ociManifest, /8388609 bytes/);
  });

  test("refuses a document that could pass for another kind (GHSA-5j5w-g665-5m35)", () => {
    refused({ ...manifest, manifests: [] }, ociManifest, /manifests: a document of type/);
    refused({ ...index, layers: [] }, ociIndex, /layers: a document of type/);
    refused({ ...manifest, mediaType: dockerManifest }, ociManifest, /mediaType: it is/);
    refused({ ...manifest, fsLayers: [] }, ociManifest, /fsLayers/);
    refused({ ...manifest, schemaVersion: 1 }, ociManifest, /schemaVersion: it is 1, want 2/);
  });

  test("names the field at fault", () => {
    refused({ ...manifest, config: undefined }, ociManifest, /: config: it is missing/);
    refused({ ...manifest, layers: {} }, ociManifest, /: layers: it is an object, want a list/);
    const withLayer = (change: object) => ({ ...manifest, layers: [layer, { ...layer, ...change }] });
    refused(withLayer({ size: -1 }), ociManifest, /: layers\[1\]\.size: it is a number, want a whole/);
    refused(withLayer({ size: 2 ** 60 }), ociManifest, /layers\[1\]\.size/);
    refused(withLayer({ digest: "sha256:../../x" }), ociManifest, /layers\[1\]\.digest: .*64 lower-case/);
    refused(withLayer({ urls: [1] }), ociManifest, /layers\[1\]\.urls: .*want a list of texts/);
    refused(withLayer({ annotations: { a: 1 } }), ociManifest, /layers\[1\]\.annotations/);
  });

  test("reads or refuses, whatever the document", () => {
    const scrambled = fc.record(
      {
        schemaVersion: fc.constantFrom(2, 1, "2"),
        mediaType: fc.constantFrom(ociManifest, ociIndex, 7),
        config: fc.oneof(fc.constant(config), fc.jsonValue()),
        layers: fc.oneof(fc.array(fc.oneof(fc.constant(layer), fc.jsonValue())), fc.jsonValue()),
        manifests: fc.jsonValue(),
        annotations: fc.jsonValue(),
      },
      { requiredKeys: [] },
    );
    const input = fc.oneof(scrambled.map(bytes), fc.uint8Array());
    fc.assert(
      fc.property(input, fc.constantFrom(ociManifest, ociIndex), (content, mediaType) => {
        try {
          parseImageDocument(content, mediaType);
        } catch (error) {
          assert.ok(error instanceof InvalidArgumentError);
        }
      }),
    );
  });
});

describe("imageLayers", () => {
  const read = parseImageDocument(bytes(manifest), ociManifest) as Manifest;
  const configOf = (...diffIDs: readonly string[]) =>
    parseImageConfig(bytes({ rootfs: { type: "layers", diff_ids: diffIDs } }));

  test("pairs each blob with its DiffID", () => {
    const diffID = digestOf("tar");
    assert.deepEqual(imageLayers(read, configOf(diffID)), [{ blob: layer, diffID }]);
  });

  test("refuses a config of another image", () => {
    for (const other of [configOf(), configOf(digestOf("a"), digestOf("b"))]) {
      assert.throws(() => imageLayers(read, other), /1 layers and its config [02] diff_ids/);
    }
  });
});
