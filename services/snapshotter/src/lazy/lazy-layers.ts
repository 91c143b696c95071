import type { Labels } from "@oci-worker/snapshots/labels";

/** Which layer, wherever it is read from: the same two digests are the same files. */
export interface LayerIdentity {
  /** Of the compressed layer. */
  readonly digest: string;
  /** Of its table of contents, which all else is checked against. */
  readonly tocDigest: string;
}

/** A layer that can be mounted: all that the kernel needs at once is here, the content of files comes when it is read. */
export interface OpenedLayer extends LayerIdentity {
  /** Stands for it from now on, across restarts. */
  readonly number: number;
  /** The file with its metadata, an EROFS image. */
  readonly metaPath: string;
  /** The file with what has been read of its content, full of holes until it is complete. */
  readonly dataPath: string;
  /** Size of the device that holds its content, in blocks of 4096 bytes. */
  readonly dataBlocks: number;
  /** Whether nothing has to be fetched any more. */
  readonly isComplete: boolean;
}

/** The layers that are read when somebody reads their files, each once for however many snapshots show it. */
export interface LazyLayers {
  /**
   * Makes the layer that a snapshot with these `labels` is for ready to be mounted.
   *
   * @throws ServiceError with the reason why that layer has to be unpacked instead.
   */
  open(labels: Labels, signal: AbortSignal): Promise<OpenedLayer>;

  /**
   * Makes a layer that was opened before ready once more, from what is on disk: asks nobody.
   *
   * @throws {NotFoundError} if that is gone.
   */
  reopen(layer: LayerIdentity): Promise<OpenedLayer>;

  /** Tells that no snapshot shows the layer `number` any more, and that nobody has it mounted. */
  forget(number: number): Promise<void>;
}

/** What shows layers as directories. */
export interface LayerMounts {
  /** Whether what an earlier process has mounted is served again; if not, it is of no use to anybody. */
  readonly adopted: boolean;
  mountLayer(layer: OpenedLayer, target: string): Promise<void>;
  /** Undoes {@link mountLayer}. EBUSY: somebody is in there. */
  unmountLayer(target: string): Promise<void>;
}
