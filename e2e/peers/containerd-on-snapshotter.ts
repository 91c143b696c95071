import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { chainIDs } from "@oci-worker/oci/chain-id";
import { formatReference } from "@oci-worker/oci/reference";
import { type ContainerdPeer, proxied, startContainerd } from "./containerd.ts";
import { createImage, type SmallImage } from "./image.ts";
import { pushTo } from "./pushed-image.ts";
import { startRegistry } from "./registry.ts";
import { type BackendName, type SnapshotterPeer, startSnapshotter } from "./snapshotter.ts";

/** A registry with a two-layer image, a containerd, and our snapshotter as its plugin. */
export interface ContainerdOnSnapshotter {
  readonly containerd: ContainerdPeer;
  readonly snapshotter: SnapshotterPeer;
  readonly content: SmallImage;
  /** Name of the image in the registry. */
  readonly image: string;
  /** Names of the snapshots of its layers, the lowest first. */
  readonly chain: readonly string[];
  /** Pulls the image, unpacked on our snapshotter. */
  pull(): Promise<void>;
  /** Runs a command in a container of the image that is gone afterwards, and gives what it prints. */
  run(id: string, ...command: string[]): Promise<string>;
  /** `ctr snapshots` with these arguments, about our snapshotter. */
  snapshots(...args: string[]): Promise<string>;
  /** Lines of `ctr snapshots list`: key, parent, kind. */
  listed(): Promise<string[][]>;
  /** How many directories of snapshots are on disk, once clean-ups that were asked for have ended. */
  directories(): Promise<number>;
}

/**
 * Has `use` work with a containerd on our snapshotter, and ends it all afterwards.
 *
 * @param files in the upper layer of the image, by absolute path.
 */
export async function withContainerd(
  backend: BackendName,
  use: (on: ContainerdOnSnapshotter) => Promise<void>,
  files: Readonly<Record<string, string>> = { "/etc/greeting": "hello\n" },
): Promise<void> {
  await using registry = await startRegistry();
  const content = await createImage({ files });
  const image = formatReference(await pushTo(registry, content));
  await using snapshotter = await startSnapshotter(backend);
  await using containerd = await startContainerd(snapshotter.address);
  await use({
    containerd,
    snapshotter,
    content,
    image,
    chain: chainIDs(content.diffIDs),
    pull: async () => {
      await containerd.ctr("images", "pull", "--plain-http", "--snapshotter", proxied, image);
    },
    run: (id, ...command) =>
      containerd.ctrAtLast("run", "--rm", "--snapshotter", proxied, image, id, ...command),
    snapshots: (...args) => containerd.ctr("snapshots", "--snapshotter", proxied, ...args),
    listed: async () => {
      const lines = await containerd.ctrAtLast("snapshots", "--snapshotter", proxied, "list");
      const [, ...rows] = lines.trimEnd().split("\n");
      return rows.map((row) => row.trimEnd().split(/\s+/));
    },
    directories: async () => {
      await snapshotter.direct.cleanup();
      return (await readdir(join(snapshotter.root, "snapshots"))).length;
    },
  });
}
