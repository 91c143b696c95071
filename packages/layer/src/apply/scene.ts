import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import { digestOf } from "@oci-worker/oci/digest";
import { type TarMember, writeTar } from "../tar/writer.ts";
import { applyLayer, type LayerToApply } from "./apply.ts";
import type { Applied } from "./messages.ts";
import { treeOf } from "./tree.ts";

/** A place for tests to apply layers, and what lies around it, which no layer may touch. */
export interface Scene extends AsyncDisposable {
  /** A file system of its own, mounted, as a snapshot is. */
  readonly root: string;
  /** Has a file `secret`, a directory `directory` with a file, and whatever a test adds. */
  readonly outside: string;
  /** For blobs. */
  readonly scratch: string;
}

export type RootKind = "tmpfs" | "bind" | "overlay";

/** The parts of an overlay scene. */
export function overlayParts(scene: Scene) {
  return { lower: join(scene.scratch, "lower"), upper: join(scene.scratch, "upper") };
}

/** Makes a scene. In one with an overlay, `fillLower` fills the lower directory before it is mounted. */
export async function makeScene(
  kind: RootKind = "tmpfs",
  fillLower: (lower: string) => Promise<unknown> = async () => undefined,
): Promise<Scene> {
  await using undo = new AsyncDisposableStack();
  const base = await mkdtemp(join(tmpdir(), "apply-"));
  undo.defer(() => rm(base, { recursive: true }));
  // overlayfs takes no upper directory on another overlay, which a temporary directory may be on.
  await mountAll([{ type: "tmpfs", source: "tmpfs", options: ["mode=755"] }], base);
  undo.defer(() => unmount(base));
  const [root, outside, scratch] = [join(base, "root"), join(base, "outside"), join(base, "scratch")];
  for (const directory of [root, outside, scratch, join(outside, "directory")]) {
    await mkdir(directory);
  }
  await writeFile(join(outside, "secret"), "secret");
  await chmod(join(outside, "secret"), 0o400);
  await writeFile(join(outside, "directory", "file"), "file");
  const sources = ["lower", "upper", "work", "bound"].map((name) => join(scratch, name));
  await Promise.all(sources.map((source) => mkdir(source)));
  const [lower = "", upper, work, bound = ""] = sources;
  await fillLower(lower);
  const mounts = {
    tmpfs: { type: "tmpfs", source: "tmpfs", options: ["mode=755"] },
    bind: { type: "bind", source: bound, options: ["rbind", "rw"] },
    overlay: {
      type: "overlay",
      source: "overlay",
      options: [`lowerdir=${lower}`, `upperdir=${upper}`, `workdir=${work}`],
    },
  };
  await mountAll([mounts[kind]], root);
  undo.defer(() => unmount(root));
  const owned = undo.move();
  return { root, outside, scratch, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

export async function archiveOf(members: Iterable<TarMember>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(writeTar(members, { exactTimes: true })));
}

/** Writes `archive` as a blob, compressed by `compress`, and says what applyLayer wants to know of it. */
export async function layerOf(
  scene: Scene,
  archive: Buffer,
  compress: (archive: Buffer) => Buffer = gzipSync,
): Promise<LayerToApply> {
  const blob = compress(archive);
  const blobPath = join(scene.scratch, randomUUID());
  await writeFile(blobPath, blob);
  return {
    blobPath,
    digest: digestOf(blob),
    sizeBytes: blob.length,
    diffId: digestOf(archive),
    directory: scene.root,
  };
}

/** Applies a layer of `members`, or an archive, and checks that nothing around the root changed, error or not. */
export async function apply(scene: Scene, content: Buffer | Iterable<TarMember>): Promise<Applied> {
  const archive = Buffer.isBuffer(content) ? content : await archiveOf(content);
  const layer = await layerOf(scene, archive);
  const before = treeOf(scene.outside);
  try {
    return await applyLayer(layer, AbortSignal.timeout(60_000));
  } finally {
    assert.deepEqual(treeOf(scene.outside), before, "nothing outside the root has changed");
  }
}

export function directory(name: string, mode = 0o755): TarMember {
  return { type: "directory", name, mode };
}

export function file(name: string, content = "", mode = 0o644): TarMember {
  return { type: "file", name, content: Buffer.from(content), mode };
}

export function symlink(name: string, linkName: string): TarMember {
  return { type: "symlink", name, linkName };
}

export function hardLink(name: string, linkName: string): TarMember {
  return { type: "hard link", name, linkName };
}
