import type { Duplex } from "node:stream";
import type { Mount } from "@oci-worker/mounts/mount";
import type { ContainerEdits } from "../cdi/container-edits.ts";
import type { NetworkMode } from "../network/network.ts";
import type { TraceContext } from "../traces/trace-context.ts";
import type { ExtraHost } from "./network-files.ts";
import type { ResourceLimit } from "./oci-spec.ts";

/** What a step sees at one place of its file system besides its root. Destinations are absolute. */
export type StepMount = SnapshotMount | TmpfsMount | SecretFile | AgentSocket;

export interface SnapshotMount {
  readonly kind: "snapshot";
  readonly destination: string;
  readonly mounts: readonly Mount[];
  /** Path inside the snapshot that is shown; "/" for all of it. */
  readonly selector: string;
  readonly writable: boolean;
  /** Whether it shows files already as those of the step's own users, where these are others on the host. */
  readonly isRemapped?: boolean;
}

export interface TmpfsMount {
  readonly kind: "tmpfs";
  readonly destination: string;
  /** 0 for the kernel's default, half of the memory. */
  readonly sizeBytes: bigint;
  readonly writable: boolean;
}

/** Who a file that is made for a step belongs to, and what may be done with it. */
export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits. */
  readonly mode: number;
}

/** A file that is in memory only and gone with the step. */
export interface SecretFile {
  readonly kind: "secret";
  readonly destination: string;
  readonly content: Uint8Array;
  readonly owner: FileOwner;
}

/** A unix socket behind which somebody else answers. */
export interface AgentSocket {
  readonly kind: "agent";
  readonly destination: string;
  readonly owner: FileOwner;
  /** Given each connection that a process of the step makes. */
  readonly connect: (connection: Duplex) => void;
}

/** A process to run. */
export interface Command {
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** `NAME=value` that is written to no disk. */
  readonly secretEnv: readonly string[];
  readonly cwd: string;
  /** As in `USER` of an image. */
  readonly user: string;
}

/**
 * One command to run in a container of its own. Its working directory is absolute, and made if the image lacks it; an empty
 * user is root.
 */
export interface Step extends Command {
  readonly id: string;
  readonly rootMounts: readonly Mount[];
  readonly readonlyRootfs: boolean;
  readonly mounts: readonly StepMount[];
  /** Of what a mount point takes that the image lacks, everything is removed afterwards and not the last part alone. */
  readonly removeStubParents: boolean;
  readonly hostname: string;
  readonly extraHosts: readonly ExtraHost[];
  readonly network: NetworkMode;
  /** Whether it reaches that by a proxy of the worker and in no other way. */
  readonly proxied: boolean;
  /** It may do all that this worker may: no sandbox but its name spaces. */
  readonly insecure: boolean;
  readonly cgroupParent: string;
  readonly limits: readonly ResourceLimit[];
  /** What its devices change. */
  readonly edits: ContainerEdits;
  /** What it is a part of; undefined: of nothing that anybody looks at. */
  readonly trace: TraceContext | undefined;
}
