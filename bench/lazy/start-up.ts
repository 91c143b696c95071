import { formatReference } from "@oci-worker/oci/reference";
import { proxied, startContainerd } from "../../e2e/peers/containerd.ts";
import { assembleImage, type ImageLayerContent } from "../../e2e/peers/image.ts";
import { pushTo } from "../../e2e/peers/pushed-image.ts";
import { type RegistryPeer, startRegistry } from "../../e2e/peers/registry.ts";
import { runStargz } from "../../e2e/peers/stargz.ts";
import type { StartSubject } from "./subject.ts";

/** A registry with one image. Disposing ends it. */
export interface RegistryWithImage extends AsyncDisposable {
  readonly registry: RegistryPeer;
  readonly image: string;
  readonly layers: readonly ImageLayerContent[];
}

/** Starts a registry and pushes an image of `layers` to it. */
export async function registryWith(layers: readonly ImageLayerContent[]): Promise<RegistryWithImage> {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const image = formatReference(await pushTo(registry, assembleImage(layers)));
  const owned = undo.move();
  return { registry, image, layers, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** What a container does first: an interpreter that looks for its modules. */
const firstCommand = ["/usr/bin/python3", "-c", "import json, subprocess, urllib.request; print(6 * 7)"];

/** How long something took, and how much CPU time of the server. */
export interface StartUp {
  readonly seconds: number;
  readonly serverCpuSeconds: number;
}

/**
 * Has a containerd that does not have `image` pull it and run a first command of it.
 *
 * @param before an image that is pulled before, so that the server is not just starting; absent: it is.
 */
export async function startUp(start: StartSubject, image: string, before?: string): Promise<StartUp> {
  await using subject = await start({ ahead: true });
  await using containerd = await startContainerd(subject.address);
  const pull = (name: string) =>
    runStargz(containerd, "images", "rpull", "--plain-http", "--snapshotter", proxied, name);
  if (before !== undefined) {
    await pull(before);
  }
  const cpuBefore = await subject.cpuSeconds();
  const startedAt = performance.now();
  await pull(image);
  const said = await containerd.ctr("run", "--rm", "--snapshotter", proxied, image, "first", ...firstCommand);
  const seconds = (performance.now() - startedAt) / 1000;
  if (said.trim() !== "42") {
    throw new Error(`The container has printed ${JSON.stringify(said)}, want 42`);
  }
  return { seconds, serverCpuSeconds: (await subject.cpuSeconds()) - cpuBefore };
}
