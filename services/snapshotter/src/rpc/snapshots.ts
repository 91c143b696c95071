import type { ServiceImpl } from "@connectrpc/connect";
import type { Snapshots } from "@oci-worker/api/containerd/snapshots";
import { infoToProto, mountToProto } from "@oci-worker/snapshots/convert";
import { labelChangeOf } from "@oci-worker/snapshots/labels";
import type { Info, Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { batches } from "./batches.ts";
import { listResponse } from "./list-response.ts";
import { statResponse } from "./stat-response.ts";

/**
 * Serves containerd.services.snapshots.v1.Snapshots from `snapshotter`.
 *
 * Each method says what the RPC takes, which call of the contract answers it and what goes back, and nothing else.
 * Which snapshotter a request names is the business of {@link import("./clients.ts")}.
 */
export function snapshotsService(snapshotter: Snapshotter): ServiceImpl<typeof Snapshots> {
  return {
    async prepare({ key, parent, labels }, { signal }) {
      const mounts = await snapshotter.prepare(key, parent || undefined, labels, signal);
      return { mounts: mounts.map(mountToProto) };
    },

    async view({ key, parent, labels }, { signal }) {
      const mounts = await snapshotter.view(key, parent || undefined, labels, signal);
      return { mounts: mounts.map(mountToProto) };
    },

    async mounts({ key }) {
      const mounts = await snapshotter.mounts(key);
      return { mounts: mounts.map(mountToProto) };
    },

    async commit({ name, key, labels, parent }, { signal }) {
      await snapshotter.commit(name, key, labels, parent || undefined, signal);
      return {};
    },

    async remove({ key }) {
      await snapshotter.remove(key);
      return {};
    },

    async stat({ key }) {
      return statResponse(await snapshotter.stat(key));
    },

    async update({ info, updateMask }) {
      const change = labelChangeOf(info?.labels ?? {}, updateMask?.paths ?? []);
      return { info: infoToProto(await snapshotter.update(info?.name ?? "", change)) };
    },

    async *list({ filters }, { signal }) {
      for await (const infos of batches(snapshotter.pages(filters, signal), sizeOf)) {
        yield listResponse(infos);
      }
    },

    async usage({ key }, { signal }) {
      const { sizeBytes, inodes } = await snapshotter.usage(key, signal);
      return { size: sizeBytes, inodes };
    },

    async cleanup(_request, { signal }) {
      await snapshotter.cleanup(signal);
      return {};
    },
  };
}

/** Three bytes for each of the longest characters, and some for what is between the fields. */
function sizeOf({ name, parent = "", labels }: Info): number {
  let chars = name.length + parent.length;
  for (const [key, value] of Object.entries(labels)) {
    chars += key.length + value.length + 4;
  }
  return 3 * chars + 64;
}
