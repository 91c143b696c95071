import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { NotFoundError, UnauthenticatedError, UnavailableError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { parseImageConfig } from "@oci-worker/oci/image-config";
import { imageLayers, parseImageDocument } from "@oci-worker/oci/manifest";
import { basicAuthorizer } from "@oci-worker/registry/authorizer";
import { RegistryClient } from "@oci-worker/registry/client";
import { upstreamHost } from "@oci-worker/registry/host";
import type { Repository } from "@oci-worker/registry/repository";
import { createImage, pushImage, type SmallImage } from "./peers/image.ts";
import { startRegistry } from "./peers/registry.ts";

/** Pulls an image as a worker does, and gives its layers. */
async function pull(repository: Repository, tag: string): Promise<Buffer[]> {
  const descriptor = await repository.resolve({ tag });
  const manifest = parseImageDocument(await repository.fetchManifest(descriptor), descriptor.mediaType);
  assert.ok(manifest.kind === "manifest");
  const config = parseImageConfig(await repository.fetchDocument(manifest.config));
  return await Promise.all(
    imageLayers(manifest, config).map(async ({ blob }) => {
      const chunks: Buffer[] = [];
      for await (const chunk of repository.fetchBlob(blob)) {
        chunks.push(chunk);
      }
      const bytes = Buffer.concat(chunks);
      assert.equal(digestOf(bytes), blob.digest);
      return bytes;
    }),
  );
}

function assertSameLayers(actual: readonly Buffer[], { layers }: SmallImage): void {
  assert.deepEqual(actual.map(digestOf), layers.map(digestOf));
}

describe("the registry client and docker-registry", () => {
  test("an image that is pushed can be pulled", async () => {
    await using registry = await startRegistry();
    using client = new RegistryClient();
    const repository = client.repository({ hosts: [upstreamHost(registry.host)], repository: "team/app" });
    const image = await createImage();
    const pushed = await pushImage(repository, image, "1");
    assert.deepEqual(await repository.resolve({ tag: "1" }), pushed);
    assertSameLayers(await pull(repository, "1"), image);
    await assert.rejects(repository.resolve({ tag: "2" }), NotFoundError);
  });

  test("a blob is sent once, and taken over by another repository", async () => {
    await using registry = await startRegistry();
    using client = new RegistryClient();
    const hosts = [upstreamHost(registry.host)];
    const [first, second] = ["first", "second"].map((repository) => client.repository({ hosts, repository }));
    assert.ok(first !== undefined && second !== undefined);
    const bytes = Buffer.from("a blob");
    const upload = { digest: digestOf(bytes), body: { sizeBytes: bytes.length, open: () => [bytes] } };
    assert.equal(await first.pushBlob(upload), "uploaded");
    assert.equal(await first.pushBlob(upload), "exists");
    assert.equal(await second.pushBlob({ ...upload, mountFrom: "first" }), "mounted");
    assert.deepEqual(await second.statBlob(upload.digest), { size: bytes.length });
    assert.equal(await second.statBlob(digestOf("another")), undefined);
  });

  test("a part of a blob is read by its range", async () => {
    await using registry = await startRegistry();
    using client = new RegistryClient();
    const repository = client.repository({ hosts: [upstreamHost(registry.host)], repository: "app" });
    const bytes = Buffer.from("0123456789");
    const digest = digestOf(bytes);
    await repository.pushBlob({ digest, body: { sizeBytes: bytes.length, open: () => [bytes] } });
    const parts: Buffer[] = [];
    for await (const part of repository.fetchBlob({ digest, size: bytes.length, offset: 3, length: 4 })) {
      parts.push(part);
    }
    assert.equal(Buffer.concat(parts).toString(), "3456");
  });

  test("a registry with a password takes the right one", async () => {
    const access = { kind: "password", username: "user", password: "right" } as const;
    await using registry = await startRegistry({ access });
    using client = new RegistryClient();
    const open = (password: string) =>
      client.repository({
        hosts: [upstreamHost(registry.host)],
        repository: "team/app",
        authorizer: basicAuthorizer(registry.host, "user", password),
      });
    const image = await createImage();
    await pushImage(open("right"), image, "1");
    assertSameLayers(await pull(open("right"), "1"), image);
    await assert.rejects(open("wrong").resolve({ tag: "1" }), (error) => {
      assert.ok(error instanceof UnauthenticatedError);
      assert.match(
        error.message,
        /^Cannot resolve 1 of team\/app from 127\.0\.0\.1:\d+: it answered HTTP 401/,
      );
      return true;
    });
  });

  test("a registry that is down is told as such at once", async () => {
    await using registry = await startRegistry();
    await registry.stop();
    using client = new RegistryClient();
    const repository = client.repository({ hosts: [upstreamHost(registry.host)], repository: "app" });
    await assert.rejects(repository.resolve({ tag: "1" }), (error) => {
      assert.ok(error instanceof UnavailableError);
      assert.match(error.message, /it refuses connections \(ECONNREFUSED\)/);
      return true;
    });
  });
});
