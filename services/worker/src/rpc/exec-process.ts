import type { ExecMessage, InitMessage } from "@oci-worker/api/buildkit/llb-bridge";
import {
  AlreadyExistsError,
  InvalidArgumentError,
  NotFoundError,
  ResourceExhaustedError,
} from "@oci-worker/errdefs";
import { Handoff } from "@oci-worker/flights/handoff";
import { refuseZeroBytes } from "@oci-worker/llb/zero-bytes";
import type { NewProcess, PreparedProcess } from "../containers/build-containers.ts";
import { type ExecAnswer, StreamedProcess } from "./streamed-process.ts";

/** So many may wait for a client that reads slowly, before a process that writes has to; one has up to 64 KiB. */
const maxWaitingAnswers = 16;

/** More than these at a time, or one after the other on one stream, are nobody's purpose. */
const maxRunning = 256;
const maxProcesses = 16_384;

/**
 * Serves LLBBridge.ExecProcess: starts the processes that the client asks for, and carries their input and output. When the
 * stream goes, they are killed; when the client has nothing more to say, they go on to their ends.
 *
 * @param prepare finds out how a process is run.
 * @param signal aborted when nobody listens any more.
 */
export async function* execProcess(
  requests: AsyncIterable<ExecMessage>,
  prepare: (process: NewProcess) => Promise<PreparedProcess>,
  signal: AbortSignal,
): AsyncGenerator<ExecAnswer, void> {
  const outbox = new Handoff<ExecAnswer>({ limit: maxWaitingAnswers });
  const processes = new ProcessTable(prepare, outbox);
  const stop = () => {
    processes.kill();
    outbox.discard();
  };
  signal.addEventListener("abort", stop, { once: true });
  processes.serve(requests).then(
    () => outbox.end(),
    (error: unknown) => outbox.fail(error),
  );
  try {
    yield* outbox;
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
}

/** The processes of one stream, by the ids that the client gives them. */
class ProcessTable {
  readonly #prepare: (process: NewProcess) => Promise<PreparedProcess>;
  readonly #outbox: Handoff<ExecAnswer>;
  /** Those included that have ended: of their ids none is used twice. */
  readonly #processes = new Map<string, StreamedProcess>();
  readonly #running = new Set<Promise<void>>();
  readonly #killed = new AbortController();

  constructor(prepare: (process: NewProcess) => Promise<PreparedProcess>, outbox: Handoff<ExecAnswer>) {
    this.#prepare = prepare;
    this.#outbox = outbox;
  }

  /** Does what the messages say, one after the other. Resolves when there are no more, and all processes have ended. */
  async serve(requests: AsyncIterable<ExecMessage>): Promise<void> {
    for await (const message of requests) {
      await this.#do(message);
    }
    await Promise.all(this.#running);
  }

  kill(): void {
    this.#killed.abort();
    for (const process of this.#processes.values()) {
      process.discardInput();
    }
  }

  /** @throws what ends the stream. The texts are upstream's. */
  async #do({ ProcessID: id, Input: input }: ExecMessage): Promise<void> {
    if (id === "") {
      throw new InvalidArgumentError("ProcessID required");
    }
    switch (input.case) {
      case "Init":
        return await this.#start(id, input.value);
      case "File":
        return await this.#get(id).write(input.value);
      case "Resize":
        return this.#get(id).resize(input.value);
      case "Signal":
        return this.#get(id).kill(input.value.Name);
      case "Started":
      case "Exit":
      case "Done":
      case undefined:
        throw new InvalidArgumentError(
          `Cannot do ${input.case ?? "nothing"} with process ${quoted(id)}: want Init, File, Resize or Signal`,
        );
    }
  }

  #get(id: string): StreamedProcess {
    const process = this.#processes.get(id);
    if (process === undefined) {
      throw new NotFoundError(`IO for process ${quoted(id)} not found`);
    }
    return process;
  }

  async #start(id: string, init: InitMessage): Promise<void> {
    if (this.#processes.has(id)) {
      throw new AlreadyExistsError(`Process ${id} already exists`);
    }
    if (this.#running.size >= maxRunning || this.#processes.size >= maxProcesses) {
      throw new ResourceExhaustedError(
        `Cannot start process ${quoted(id)}: want at most ${maxRunning} at a time and ${maxProcesses} on a stream`,
      );
    }
    const process = new StreamedProcess(id, init, this.#outbox);
    const prepared = await this.#prepare(newProcess(init));
    this.#processes.set(id, process);
    const running = process.run(prepared, this.#killed.signal);
    this.#running.add(running);
    void running.then(() => this.#running.delete(running));
  }
}

/** @throws {InvalidArgumentError} if there is nothing to run, or a text in it is none. */
function newProcess({ ContainerID, Meta, Security, secretenv }: InitMessage): NewProcess {
  if (Meta === undefined || Meta.args.length === 0) {
    throw new InvalidArgumentError(
      `Cannot start a process in container ${quoted(ContainerID)}: it has no arguments, want at least the program`,
    );
  }
  const { args, env, cwd, user } = Meta;
  refuseZeroBytes(`Cannot start a process in container ${quoted(ContainerID)}`, [...args, ...env, cwd, user]);
  return {
    containerID: ContainerID,
    args: Meta.args,
    env: Meta.env,
    secretEnv: secretenv,
    cwd: Meta.cwd,
    user: Meta.user,
    security: Security,
    removeStubParents: Meta.removeMountStubsRecursive,
  };
}

function quoted(id: string): string {
  return JSON.stringify(id.slice(0, 100));
}
