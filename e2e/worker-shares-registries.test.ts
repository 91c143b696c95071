import assert from "node:assert/strict";
import { test } from "node:test";
import { definitionOf, image } from "@oci-worker/llb/build";
import { digestOf } from "@oci-worker/oci/digest";
import { assembleImage, createImage, layerOf } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startUnrulyFront } from "./peers/unruly-front.ts";
import { startWorker } from "./peers/worker.ts";

/** More than any of the limits. */
const layerCount = 8;

/** A registry with an image of many small layers, and one of others. */
async function pushed() {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const front = undo.use(await startUnrulyFront(registry.host));
  const layers = await Promise.all(
    Array.from({ length: layerCount }, (_, index) =>
      layerOf([{ type: "file", name: `file-${index}`, content: Buffer.from(String(index)) }]),
    ),
  );
  const large = { ...(await pushTo(registry, assembleImage(layers), "test/large")), domain: front.host };
  const other = { ...(await pushTo(registry, await createImage(), "test/other")), domain: front.host };
  const owned = undo.move();
  return {
    front,
    large,
    other,
    layers: new Set<string>(layers.map(({ blob }) => digestOf(blob))),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

for (const limit of [1, 6]) {
  test(`as many layers come from a registry at a time as the worker is told, and documents meanwhile: ${limit}`, async () => {
    await using images = await pushed();
    const held: (() => void)[] = [];
    const isReached = Promise.withResolvers<void>();
    images.front.mishap = ({ url = "" }, response, { status, headers, body }) => {
      if (!images.layers.has(url.split("/").at(-1) ?? "")) {
        return false;
      }
      held.push(() => response.writeHead(status, headers).end(body));
      if (held.length === limit) {
        isReached.resolve();
      }
      return true;
    };
    await using worker = await startWorker({ config: `[system]\nmaxRegistryConcurrency = ${limit}\n` });
    const pulling = worker.client.solve(definitionOf(image(images.large)));
    await Promise.race([isReached.promise, pulling.result]);
    // One layer too many would have been asked for before this, which goes to and fro several times.
    await worker.client.build(async (gateway) => {
      await gateway.resolveImage(images.other);
      return undefined;
    }).result;
    assert.equal(held.length, limit);
    images.front.mishap = undefined;
    for (const answer of held) {
      answer();
    }
    await pulling.result;
  });
}
