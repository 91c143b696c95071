import type { WindowSize } from "@oci-worker/libc/pty";
import type { Owner } from "@oci-worker/mounts/owner-map";
import type { ProcessInput } from "./process-input.ts";

/**
 * What a process writes to its standard output (1) or standard error (2).
 *
 * @returns undefined if more may follow at once, else a promise of that moment, which does not reject; the process waits.
 */
export type OutputListener = (stream: 1 | 2, chunk: Buffer) => Promise<void> | undefined | void;

/** How a process in a container is connected. */
export interface ProcessStreams {
  /** Absent: it finds nothing to read. */
  readonly input?: ProcessInput;
  readonly onOutput: OutputListener;
  /** Who on the host may open pipes again that the process is given, as `/dev/stdout`; absent: this process's user. */
  readonly owner?: Owner | undefined;
  /** Whether it has a terminal, so that all that it writes is standard output. */
  readonly terminal?: boolean;
  /** Told once, when the process runs, before any of its output. */
  readonly onStart?: (process: StartedProcess) => void;
}

/** A process that runs in a container. Once it has ended, nothing here does anything. */
export interface StartedProcess {
  /** @param signal number of it (signal(7)). */
  kill(signal: number): void;
  /** Does nothing without a terminal. */
  resize(size: WindowSize): void;
}

/** The ends of a process's streams that this worker has. */
export interface Stdio {
  /** The other ends, for 0 to 2 of the runtime. */
  readonly theirs: readonly [number | "ignore", number, number];
  /** The runtime has the other ends, or has failed to start: lets go of them, and begins to pass on what comes. */
  begin(): void;
  /** Gives the terminal, if there is one, another size. @param runtimePid of the runtime that runs the process. */
  resize(size: WindowSize, runtimePid: number): void;
  /** The process has ended: it reads no more. */
  endInput(): void;
  /** Resolves when all output has been passed on. */
  readonly ended: Promise<void>;
}
