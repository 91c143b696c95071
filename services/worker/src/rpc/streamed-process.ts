import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ExecMessageSchema,
  FdMessage,
  InitMessage,
  ResizeMessage,
} from "@oci-worker/api/buildkit/llb-bridge";
import { InvalidArgumentError, ServiceError } from "@oci-worker/errdefs";
import type { Handoff } from "@oci-worker/flights/handoff";
import type { PreparedProcess } from "../containers/build-containers.ts";
import type { ProcessEnd } from "../containers/process-end.ts";
import { type ProcessInput, processInput } from "../executor/stdio/process-input.ts";
import type { ProcessStreams, StartedProcess } from "../executor/stdio/streams.ts";
import { failureOf } from "../solver/failure.ts";
import { processStatus } from "./error-details.ts";
import { signalNumber } from "./signal-number.ts";

export type ExecAnswer = MessageInitShape<typeof ExecMessageSchema>;

/** What a process ends with that could not be run (containerd, task.go). */
const unknownExitCode = 255;

/** The window of a terminal has so many lines and columns at most (struct winsize, ioctl_tty(2)). */
const maxWindow = 0xffff;

/** A process that a client has started, and the messages about it: what it is sent, and what it answers. */
export class StreamedProcess {
  readonly #id: string;
  readonly #outbox: Handoff<ExecAnswer>;
  readonly #terminal: boolean;
  readonly #fds: ReadonlySet<number>;
  readonly #input: ProcessInput | undefined;
  readonly #started = Promise.withResolvers<StartedProcess>();
  #isStartTold = false;
  #hasEnded = false;
  /** The client has said that no more input follows. */
  #isInputEnded = false;

  /** @throws {InvalidArgumentError} if it is to be connected where nothing is. */
  constructor(id: string, { Fds, Tty }: InitMessage, outbox: Handoff<ExecAnswer>) {
    const unknown = Fds.find((fd) => fd > 2);
    if (unknown !== undefined) {
      throw new InvalidArgumentError(`Cannot connect fd ${unknown} of a process: want 0, 1 or 2`);
    }
    this.#id = id;
    this.#outbox = outbox;
    this.#terminal = Tty;
    this.#fds = new Set(Fds);
    this.#input = this.#fds.has(0) ? processInput() : undefined;
  }

  /** Runs it, and tells of it, to its end. Does not reject: how it has failed is told, too. */
  async run({ isFurther, run }: PreparedProcess, signal: AbortSignal): Promise<void> {
    if (isFurther) {
      // Upstream does not wait for these, and clients rely on it: one that pipes the output of a process into the next hears of
      // nothing else until it has that.
      this.#tellStarted();
    }
    const { code, failure } = await this.#end(run, signal);
    this.#hasEnded = true;
    this.discardInput();
    // Also of one that never came so far: clients wait for it before they look at anything else.
    this.#tellStarted();
    for (const Fd of [1, 2].filter((fd) => this.#fds.has(fd))) {
      this.#answer({ case: "File", value: { Fd, EOF: true } });
    }
    const status = failure && processStatus(failure);
    this.#answer({ case: "Exit", value: { Code: code, ...(status && { Error: status }) } });
    this.#answer({ case: "Done", value: {} });
  }

  /**
   * Resolves when there is room for more. What comes when the process has ended is dropped: the client cannot know that yet.
   *
   * @throws {ServiceError} OUT_OF_RANGE if it has no such input, or no longer; in upstream's words.
   */
  async write({ Fd, EOF, Data }: FdMessage): Promise<void> {
    if (this.#hasEnded) {
      return;
    }
    const input = this.#input;
    if (Fd !== 0 || input === undefined || this.#isInputEnded) {
      throw new ServiceError("OUT_OF_RANGE", `fd ${Fd} unavailable to write`);
    }
    if (Data.length > 0) {
      await input.put(Data);
    }
    if (EOF) {
      this.#isInputEnded = true;
      input.end();
    }
  }

  /** As soon as it runs. @throws {InvalidArgumentError} if no terminal has that size. */
  resize({ Rows: rows, Cols: columns }: ResizeMessage): void {
    if (rows > maxWindow || columns > maxWindow) {
      throw new InvalidArgumentError(
        `Cannot resize a terminal to ${rows} rows of ${columns} columns: want at most ${maxWindow} of each`,
      );
    }
    void this.#started.promise.then((process) => process.resize({ rows, columns }));
  }

  /** As soon as it runs. @throws {InvalidArgumentError} if there is no signal of that name. */
  kill(name: string): void {
    const number = signalNumber(name);
    void this.#started.promise.then((process) => process.kill(number));
  }

  /** It gets no more to read. */
  discardInput(): void {
    this.#input?.discard();
  }

  #tellStarted(): void {
    if (!this.#isStartTold) {
      this.#isStartTold = true;
      this.#answer({ case: "Started", value: {} });
    }
  }

  async #end(run: PreparedProcess["run"], signal: AbortSignal): Promise<ProcessEnd> {
    const streams: ProcessStreams = {
      ...(this.#input && { input: this.#input }),
      terminal: this.#terminal,
      onStart: (process) => {
        this.#tellStarted();
        this.#started.resolve(process);
      },
      onOutput: (Fd, Data) =>
        this.#fds.has(Fd)
          ? this.#outbox.put({ ProcessID: this.#id, Input: { case: "File", value: { Fd, Data } } })
          : undefined,
    };
    try {
      return await run(streams, signal);
    } catch (error) {
      return { code: unknownExitCode, failure: failureOf(error) };
    }
  }

  /** What is short and comes once need not wait for room. */
  #answer(Input: NonNullable<ExecAnswer["Input"]>): void {
    void this.#outbox.put({ ProcessID: this.#id, Input });
  }
}
