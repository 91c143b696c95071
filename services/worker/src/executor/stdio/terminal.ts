import { closeSync, readdirSync, readlinkSync, writeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { ReadStream } from "node:tty";
import { pidfdGetfd, pidfdOpen } from "@oci-worker/libc/descriptor";
import { openPty, setWindowSize, type WindowSize } from "@oci-worker/libc/pty";
import { passOn } from "./pipes.ts";
import type { ProcessInput } from "./process-input.ts";
import type { ProcessStreams, Stdio } from "./streams.ts";

/** What a terminal does not take because its process does not read is tried again so often. The kernel tells nobody of room. */
const pauseMs = 10;

/**
 * A terminal for a process: a pair of pseudoterminals whose slave the runtime has, as it has that of whoever runs it by hand.
 * The runtime makes the terminal of the process itself, in the container, and copies between the two.
 *
 * Not by `--console-socket`: runc takes that only together with `--detach`, and then nobody learns the exit code.
 */
export function openTerminal({ input, onOutput }: Pick<ProcessStreams, "input" | "onOutput">): Stdio {
  const { master, slave } = openPty();
  const reader = new ReadStream(master);
  const ended = passOn(reader, 1, onOutput);
  return {
    theirs: [slave, slave, slave],
    begin: () => {
      closeSync(slave);
      if (input !== undefined) {
        void feed(input, master, reader);
      }
    },
    resize: (size, runtimePid) => {
      if (!reader.destroyed) {
        setWindowSize(master, size);
        resizeInner(size, runtimePid);
      }
    },
    endInput: () => input?.discard(),
    ended,
  };
}

/** Writes all of `input` to the terminal. That it ends means nothing to the process: who wants that types the character for it. */
async function feed(input: ProcessInput, master: number, reader: ReadStream): Promise<void> {
  for await (const chunk of input) {
    for (let rest = chunk; rest.length > 0; ) {
      if (reader.destroyed) {
        return;
      }
      const written = writeIfRoom(master, rest);
      rest = rest.subarray(written);
      if (written === 0) {
        await delay(pauseMs);
      }
    }
  }
}

/** At once and on this thread, so that the descriptor cannot be another's by then; it does not block. */
function writeIfRoom(master: number, bytes: Uint8Array): number {
  try {
    return writeSync(master, bytes);
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "EAGAIN" || error.code === "EIO")) {
      // EIO: nobody has the slave any more. The reader meets that, too.
      return 0;
    }
    throw error;
  }
}

/**
 * Hands a new size on to the terminal of the process. runc does that when it is told, crun 1.8 does not: so its end of that
 * terminal is looked for.
 */
function resizeInner(size: WindowSize, runtimePid: number): void {
  try {
    process.kill(runtimePid, "SIGWINCH");
    const pidfd = pidfdOpen(runtimePid);
    try {
      for (const fd of masterFds(runtimePid)) {
        const copy = pidfdGetfd(pidfd, fd);
        try {
          setWindowSize(copy, size);
        } finally {
          closeSync(copy);
        }
      }
    } finally {
      closeSync(pidfd);
    }
  } catch (error) {
    // The runtime has just ended, or is none of ours to look into; SIGWINCH is all that can be done then.
    if (!(error instanceof Error && "code" in error)) {
      throw error;
    }
  }
}

function masterFds(pid: number): number[] {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory)
    .filter((fd) => /(^|\/)ptmx$/.test(readlinkSync(`${directory}/${fd}`)))
    .map(Number);
}
