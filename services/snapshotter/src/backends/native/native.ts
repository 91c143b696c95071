import type { Mount } from "@oci-worker/mounts/mount";
import { idMapOptions, idMappingOf } from "@oci-worker/snapshots/id-mapping";
import type { Logger } from "pino";
import type { CopyPart } from "../../trees/copy-tree.ts";
import type { Trees } from "../../trees/trees.ts";
import { type Backend, contentOf, type Mountable, type NewContent } from "../backend.ts";
import { makeContentDirectory, ownerOf } from "../content-directory.ts";

/** A copy of fewer files is done before a second thread has begun. */
const filesPerLane = 500;

export interface NativeOptions {
  readonly trees: Trees;
  readonly log: Logger;
  /** Whether a copy has to be on disk before it is used. */
  readonly syncsContent: boolean;
  /** See {@link Backend.idMapObstacle}. */
  readonly idMapObstacle: string | undefined;
}

/**
 * Keeps of each snapshot the whole tree: a copy of its parent's, made when it is prepared. Needs nothing of the
 * host, and a lot of disk where the file system cannot share blocks.
 */
export class Native implements Backend {
  readonly name = "native";
  readonly canRebase = false;
  readonly mountOptions: readonly string[] = [];
  readonly idMapObstacle: string | undefined;
  readonly #trees: Trees;
  readonly #log: Logger;
  readonly #syncsContent: boolean;

  constructor({ trees, log, syncsContent, idMapObstacle }: NativeOptions) {
    this.#trees = trees;
    this.#log = log;
    this.#syncsContent = syncsContent;
    this.idMapObstacle = idMapObstacle;
  }

  isSpareEnough(): boolean {
    return false;
  }

  async fill(
    directory: string,
    { kind, parentContent }: NewContent,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const content = contentOf(directory);
    makeContentDirectory(content, ownerOf(parentContent));
    if (kind === "active" && parentContent !== undefined) {
      await this.#copy(parentContent, content, signal);
    }
  }

  labelsOf(): undefined {
    return undefined;
  }

  /** Its files have the ids of the container on disk, whatever the labels: the mounter shows them as the host's. */
  mounts({ kind, directory, parents: [nearest], labels }: Mountable): Mount[] {
    const source = contentOf(kind === "view" ? (nearest ?? directory) : directory);
    const options = [...idMapOptions(idMappingOf(labels)), "rbind", kind === "view" ? "ro" : "rw"];
    return [{ type: "bind", source, options }];
  }

  async #copy(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
    const copy = (part: CopyPart) => this.#trees.run("copy", { from, to, part }, signal);
    const skeleton = await copy({ name: "skeleton" });
    const lanes = Math.max(1, Math.min(this.#trees.maxThreads, Math.floor(skeleton.files / filesPerLane)));
    const lanesEnded = await Promise.allSettled(
      Array.from({ length: lanes }, (_, lane) => copy({ name: "files", lane, lanes })),
    );
    // A failure is told when all have stopped: what they were filling is deleted then.
    const files = lanesEnded.map((lane) => {
      if (lane.status === "rejected") {
        throw lane.reason;
      }
      return lane.value;
    });
    const directories = await copy({ name: "directories" });
    if (this.#syncsContent) {
      await this.#trees.run("sync", { path: to }, signal);
    }
    for (const { skippedAttributes } of [skeleton, ...files, directories]) {
      if (Object.keys(skippedAttributes).length > 0) {
        this.#log.warn({ directory: to, skippedAttributes }, "extended attributes not copied");
      }
    }
  }
}
