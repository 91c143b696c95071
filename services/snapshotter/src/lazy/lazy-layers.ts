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
  /** Of that file. */
  readonly metaDigest: string;
  /** The file with what has been read of its content, full of holes until it is complete. */
  readonly dataPath: string;
  /** Size of the device that holds its content, in blocks of 4096 bytes. */
  readonly dataBlocks: number;
  /** Whether nothing has to be fetched any more. Before its file is mounted as its device: {@link LazyLayers.useAsDevice}. */
  readonly isComplete: boolean;
  /** Whether {@link LazyLayers.useAsDevice} has been promised, perhaps to an earlier process. */
  readonly isDevice: boolean;
}

/** How far a layer is, and what stands in its way. Sizes are in bytes. */
export interface LayerStatus extends LayerIdentity {
  readonly number: number;
  /** The image that it was first read from. */
  readonly reference: string;
  /** Of its content: what its files have, each distinct piece counted once. */
  readonly contentBytes: number;
  /** How much of that is on disk. */
  readonly cachedBytes: number;
  /** How much of that has been checked since the start; the rest is checked before somebody sees it. */
  readonly verifiedBytes: number;
  /** What has come over the network since the start, compressed. */
  readonly fetchedBytes: number;
  readonly isComplete: boolean;
  /** What is fetched beside that which somebody waits for. */
  readonly activity: "none" | "prefetch" | "background";
  /** Host that has served it last, such as `https://registry.example`. */
  readonly host: string | undefined;
  /** Why something of it could not be read last, until something could again. */
  readonly failure: { readonly message: string; readonly atMs: number } | undefined;
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

  /**
   * Waits until what the image of the layer `number` says that it needs at its start is here, or until that has taken too
   * long: what is missing then comes when it is read.
   */
  prefetched(number: number): Promise<void>;

  /**
   * Promises that the data of the layer `number` stays as it is for as long as there is the layer, so that the file itself
   * can be its device.
   *
   * @returns false if it is not complete, or too much of the quota is promised already.
   */
  useAsDevice(number: number): Promise<boolean>;

  /** Has `listener` told of each layer from now on of which the last piece has come, or has been found to be good. */
  onComplete(listener: (layer: LayerIdentity) => void): void;

  /** Tells that no snapshot shows the layer `number` any more, and that nobody has it mounted. */
  forget(number: number): Promise<void>;

  /** Every layer that is not forgotten. */
  status(): Promise<readonly LayerStatus[]>;
}

/** What shows layers as directories. */
export interface LayerMounts {
  /** How, such as `erofs`. */
  readonly mode: string;
  /** Better ways, and why this host does not have them. */
  readonly passedOver: readonly { readonly mode: string; readonly obstacle: string }[];
  /** Whether what an earlier process has mounted is served again; if not, it is of no use to anybody. */
  readonly adopted: boolean;
  mountLayer(layer: OpenedLayer, target: string): Promise<void>;
  /** Has what is mounted at `target` read out of the data file of the layer, which is complete; not there where it cannot be. */
  useFile?(layer: OpenedLayer, target: string): Promise<void>;
  /** Undoes both. EBUSY: somebody is in there. */
  unmountLayer(target: string): Promise<void>;
}
