import type { Digest } from "@oci-worker/oci/digest";

/**
 * What a record holds, in the words that clients filter by (BuildKit, client/diskusage.go): which of them a policy may
 * remove depends on it.
 */
export type RecordType =
  | "regular"
  | "internal"
  | "frontend"
  | "source.local"
  | "source.git.checkout"
  | "exec.cachemount";

/** What is to be known of a snapshot that the worker wants to keep. */
export interface NewRecord {
  /** The snapshot: name of a committed one, key of an active one. */
  readonly id: string;
  /** Snapshots that it stands on, the nearest alone; empty for one that stands on nothing. */
  readonly parents: readonly string[];
  readonly type: RecordType;
  /** For people: what it was made for. */
  readonly description: string;
  /** It goes on changing, as cache mounts do; its snapshot is an active one. */
  readonly mutable: boolean;
  /** Blobs of the content store that are of use only as long as the record is there. */
  readonly blobs: readonly Digest[];
}

/** A record as it is kept on disk. */
export interface StoredRecord extends NewRecord {
  /** Disk use of the snapshot alone, in bytes; undefined until it has been measured. */
  readonly sizeBytes: number | undefined;
  readonly createdAtMs: number;
  /** When it was last held by something; undefined if it never was. */
  readonly usedAtMs: number | undefined;
  readonly useCount: number;
}

/** A record as it is now. */
export interface CacheRecord extends StoredRecord {
  /** A build, an export or a step holds it or something on top of it, so it stays. */
  readonly inUse: boolean;
}
