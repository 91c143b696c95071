import assert from "node:assert/strict";
import { test } from "node:test";
import { assembleImage } from "./peers/image.ts";
import { distinctFiles, openLazyView } from "./peers/lazy-view.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startResolver } from "./peers/resolver.ts";

test("a lazy layer is read at the first mirror that serves, and at the registry of its name when none does", async () => {
  const { layer, sums } = await distinctFiles(4);
  await using origin = await startRegistry();
  await using first = await startRegistry();
  await using second = await startRegistry();
  const image = assembleImage([layer]);
  for (const mirror of [first, second]) {
    await pushTo(mirror, image, "team/lazy");
  }
  const reference = await pushTo(origin, image, "team/lazy");
  const config = `
    hostsDir = ""
    [registry."${origin.host}"]
    mirrors = ["${first.host}", "${second.host}"]
  `;
  await using resolver = await startResolver({ config });
  const resolverAddress = resolver.address;
  const reads = (peer: { readonly log: readonly string[] }) =>
    peer.log.filter((line) => line.includes("GET /v2/team/lazy/blobs/")).length;
  await using view = await openLazyView({ reference, layer, resolverAddress, mode: "auto" });
  assert.equal(await view.sum(0), sums[0]);
  const served = async () => (await view.told()).host?.replace(/^http:\/\//, "");
  assert.equal(await served(), first.host);
  assert.deepEqual([reads(second), reads(origin)], [0, 0]);

  await first.stop();
  assert.equal(await view.sum(1), sums[1]);
  assert.equal(await served(), second.host);
  assert.equal(reads(origin), 0);

  await second.stop();
  assert.equal(await view.sum(2), sums[2]);
  assert.equal(await served(), origin.host);

  await origin.stop();
  await assert.rejects(view.sum(3), /Input\/output error/);
  assert.notEqual((await view.told()).failure, undefined);
  await first.start();
  assert.equal(await view.sum(3), sums[3]);
  assert.equal(await served(), first.host);
  assert.equal((await view.told()).failure, undefined);
});
