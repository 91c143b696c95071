/** How layers are shown, best first. */
export const mountModes = ["erofs", "erofs-loop", "fuse"] as const;
export type MountMode = (typeof mountModes)[number];

/** A layer as it is to be mounted. */
export interface LayerToMount {
  /** Names it for whoever serves its content. */
  readonly number: number;
  /** The EROFS image with its metadata. */
  readonly metaPath: string;
  /** Of that file: whoever serves out of it checks it. */
  readonly metaDigest: string;
  /** What the image has as its data device, as far as it is there. */
  readonly dataPath: string;
  /** Size of that in blocks of 4 KiB; 0 if no file has content. */
  readonly dataBlocks: number;
  /** All of it is there: nobody has to serve it any more. */
  readonly isComplete: boolean;
}

/** A FUSE device on which requests come that somebody has to answer. */
export type ServedDevice = {
  readonly fd: number;
  /** Where it is mounted. */
  readonly target: string;
  /** Requests that an earlier process has not answered are still waiting. */
  readonly isAdopted: boolean;
} & (
  | {
      /** One directory with the data device of each layer as a file, named by its number. */
      readonly kind: "blobs";
    }
  | {
      /** One directory with the files of each layer in another one, named by the number of a record. */
      readonly kind: "trees";
      /** Where the records are: see `tree-records.ts`. */
      readonly recordsPath: string;
    }
);

/**
 * Serves a device from a thread of its own, until the thread ends: because its file system has, or because it is told to.
 * Never rejects. Afterwards the descriptor may be closed: nothing is written to it any more.
 */
export type ServeDevice = (device: ServedDevice) => Promise<void>;

/** Why a way to show layers is not taken. */
export interface PassedOver {
  readonly mode: MountMode;
  readonly obstacle: string;
}

/**
 * Shows layers as directories while the content of their files is elsewhere.
 *
 * What it has mounted outlives it, and can be read again when another process serves. Disposing takes away only what
 * nobody uses. Nothing here touches a mount whose requests this process has to answer: not even a kill ends a process
 * that waits for itself.
 */
export interface LayerMounter extends AsyncDisposable {
  readonly mode: MountMode;
  /** Better ways, and what is in their way. */
  readonly passedOver: readonly PassedOver[];
  /** Whether what an earlier process has mounted can be read; else it has to be mounted anew. */
  readonly adopted: boolean;

  /** Has `serve` answer for all devices, those there are and those to come. To be called once, before the first mount. */
  serveWith(serve: ServeDevice): void;

  /**
   * Mounts a layer at the directory `target`, read-only. Whoever serves must know it by then, and answer.
   *
   * @throws {FailedPreconditionError} naming the layer, and what the kernel said.
   */
  mountLayer(layer: LayerToMount, target: string): Promise<void>;

  /**
   * Has a layer that is mounted at `target`, and complete by now, read out of its data file: by whoever mounts it from there
   * from now on, and as far as the kernel can do that, by those who have. Not there where all is served.
   */
  useFile?(layer: LayerToMount, target: string): Promise<void>;

  /**
   * Undoes {@link mountLayer} and {@link useFile}; nothing if nothing is mounted there.
   *
   * @throws EBUSY while somebody uses it.
   */
  unmountLayer(target: string): Promise<void>;
}
