import type { Labels } from "@oci-worker/snapshots/labels";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";

/** containerd collects a snapshot that nothing leads to, unless it has this label (docs/garbage-collection.md). */
const rootLabel = "containerd.io/gc.root";

/**
 * `snapshotter`, whose garbage collector, if it has one, is told to let everything be: what is kept and what goes is the
 * worker's own to know.
 */
export function rooted(snapshotter: Snapshotter): Snapshotter {
  const kept = (labels: Labels): Labels => ({ ...labels, [rootLabel]: new Date().toISOString() });
  return {
    stat: (...args) => snapshotter.stat(...args),
    update: (...args) => snapshotter.update(...args),
    usage: (...args) => snapshotter.usage(...args),
    mounts: (...args) => snapshotter.mounts(...args),
    prepare: (key, parent, labels, signal) => snapshotter.prepare(key, parent, kept(labels), signal),
    view: (key, parent, labels, signal) => snapshotter.view(key, parent, kept(labels), signal),
    commit: (name, key, labels, parent, signal) =>
      snapshotter.commit(name, key, kept(labels), parent, signal),
    remove: (...args) => snapshotter.remove(...args),
    walk: (...args) => snapshotter.walk(...args),
    pages: (...args) => snapshotter.pages(...args),
    cleanup: (...args) => snapshotter.cleanup(...args),
    [Symbol.asyncDispose]: () => snapshotter[Symbol.asyncDispose](),
  };
}
