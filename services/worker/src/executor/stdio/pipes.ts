import { closeSync, fchownSync } from "node:fs";
import { Socket } from "node:net";
import type { Readable } from "node:stream";
import { openPipe } from "@oci-worker/libc/file";
import type { ProcessInput } from "./process-input.ts";
import type { OutputListener, ProcessStreams, Stdio } from "./streams.ts";

/**
 * Pipes for a process without a terminal. They are pipes and not the sockets that Node makes by itself, for of those a process
 * cannot open `/dev/stdout` (unix(7)), and not every runtime puts pipes of its own in between.
 */
export function openPipes({
  input,
  onOutput,
  owner,
}: Pick<ProcessStreams, "input" | "onOutput" | "owner">): Stdio {
  using undo = new DisposableStack();
  const open = () => {
    const pipe = openPipe();
    undo.defer(() => closeAll([pipe.readFd, pipe.writeFd]));
    if (owner !== undefined) {
      fchownSync(pipe.writeFd, owner.uid, owner.gid);
    }
    return pipe;
  };
  const stdin = input && { input, ...open() };
  const stdout = open();
  const stderr = open();
  undo.move();
  const theirs = [stdin?.readFd ?? "ignore", stdout.writeFd, stderr.writeFd] as const;
  const ended = Promise.withResolvers<void>();
  let writer: Socket | undefined;
  return {
    theirs,
    begin: () => {
      closeAll(theirs.filter((fd) => fd !== "ignore"));
      const outputs = [
        passOn(readerOf(stdout.readFd), 1, onOutput),
        passOn(readerOf(stderr.readFd), 2, onOutput),
      ];
      writer = stdin && feed(stdin.input, stdin.writeFd);
      void Promise.all(outputs).then(() => ended.resolve());
    },
    resize: () => undefined,
    endInput: () => writer?.destroy(),
    ended: ended.promise,
  };
}

/** Passes on what comes from `source` to its end, no faster than the listener takes it. */
export function passOn(source: Readable, stream: 1 | 2, onOutput: OutputListener): Promise<void> {
  const ended = Promise.withResolvers<void>();
  source.on("data", (chunk: Buffer) => {
    const room = onOutput(stream, chunk);
    if (room !== undefined) {
      source.pause();
      void room.then(() => source.resume());
    }
  });
  // Of a terminal the end is an error, EIO; there is no other that would not be an end, too.
  source.on("error", () => undefined);
  source.on("close", () => ended.resolve());
  return ended.promise;
}

/** Writes all of `input` to the pipe `fd` and closes it, or drops what is left when nobody reads there any more. */
function feed(input: ProcessInput, fd: number): Socket {
  const socket = new Socket({ fd, readable: false, writable: true });
  socket.on("error", () => undefined);
  socket.on("close", () => input.discard());
  const run = async () => {
    for await (const chunk of input) {
      if (socket.destroyed) {
        return;
      }
      await written(socket, chunk);
    }
    socket.end();
  };
  void run();
  return socket;
}

/** Resolves when the pipe has it, or takes nothing any more. */
function written(socket: Socket, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    socket.write(chunk, () => resolve());
  });
}

function readerOf(fd: number): Socket {
  return new Socket({ fd, readable: true, writable: false });
}

function closeAll(fds: readonly number[]): void {
  for (const fd of fds) {
    closeSync(fd);
  }
}
