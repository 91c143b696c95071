import { stripVTControlCharacters } from "node:util";
import type { StatusUpdate } from "@oci-worker/client/status";
import { UsageError } from "../args/usage-error.ts";
import type { OutputStream, Terminal } from "../terminal.ts";
import { BuildProgress } from "./build-progress.ts";
import { LiveRegion } from "./live-region.ts";
import { PlainLines } from "./plain-lines.ts";
import { paintFor, symbolsFor } from "./style.ts";
import { treeLines } from "./tree-lines.ts";

/** Ways to show progress. */
export const progressModes = ["auto", "plain", "tty", "quiet"] as const;
export type ProgressMode = (typeof progressModes)[number];

/** Shows on standard error how a build goes. */
export interface Display extends Disposable {
  update(update: StatusUpdate): void;
  /** Writes what a process has written to `stream` of our own, byte for byte. */
  passThrough(stream: OutputStream, data: Uint8Array): Promise<void>;
  /** The build is over; the last state is shown. */
  end(): void;
}

/** How often a live display is drawn, in milliseconds. */
const frameMs = 100;

/** Rows that are left free: the cursor's, and one so that a terminal does not scroll. */
const spareRows = 2;

/** How the environment wants progress to be shown where the command line leaves it open, as for BuildKit's clients. */
const modeVariable = "BUILDKIT_PROGRESS";

/**
 * What is asked for: by the command line, else by the environment.
 *
 * @throws {UsageError} if the environment asks for what there is not.
 */
export function askedMode(mode: ProgressMode, env: NodeJS.ProcessEnv): ProgressMode {
  const variable = env[modeVariable];
  if (mode !== "auto" || variable === undefined || variable === "") {
    return mode;
  }
  const asked = progressModes.find((known) => known === variable);
  if (asked === undefined) {
    throw new UsageError(
      `Cannot use ${modeVariable}: it is ${JSON.stringify(variable)}, want one of ${progressModes.join(", ")}`,
    );
  }
  return asked;
}

/** Settles what `auto` means: what the environment says, else a live display on a terminal that can show one, else plain lines. */
export function chosenMode(flag: ProgressMode, { stderr, env }: Terminal): Exclude<ProgressMode, "auto"> {
  const mode = askedMode(flag, env);
  if (mode !== "auto") {
    return mode;
  }
  return stderr.isTTY === true && env["TERM"] !== "dumb" ? "tty" : "plain";
}

/** Opens a display. @param title what is shown above a live one. */
export function openDisplay(mode: ProgressMode, title: string, terminal: Terminal): Display {
  switch (chosenMode(mode, terminal)) {
    case "plain":
      return new PlainDisplay(terminal.stderr);
    case "tty":
      return new LiveDisplay(title, terminal);
    case "quiet":
      return quietDisplay;
  }
}

const quietDisplay: Display = {
  update: () => undefined,
  passThrough: write,
  end: () => undefined,
  [Symbol.dispose]: () => undefined,
};

class PlainDisplay implements Display {
  readonly #stream: OutputStream;
  readonly #progress = new BuildProgress();
  readonly #lines = new PlainLines(this.#progress);
  /** What a process has written to where our lines go ends inside a line. */
  #midLine = false;

  constructor(stream: OutputStream) {
    this.#stream = stream;
  }

  update(update: StatusUpdate): void {
    this.#progress.apply(update);
    this.#tell();
  }

  async passThrough(stream: OutputStream, data: Uint8Array): Promise<void> {
    if (stream === this.#stream || (stream.isTTY === true && this.#stream.isTTY === true)) {
      this.#midLine = data.at(-1) !== 0x0a;
    }
    await write(stream, data);
  }

  end(): void {
    this.#progress.end();
    this.#tell();
  }

  [Symbol.dispose](): void {}

  #tell(): void {
    for (const line of this.#lines.next(Date.now())) {
      this.#stream.write(`${this.#midLine ? "\n" : ""}${line}\n`);
      this.#midLine = false;
    }
  }
}

class LiveDisplay implements Display {
  readonly #title: string;
  readonly #terminal: Terminal;
  readonly #progress = new BuildProgress();
  readonly #region: LiveRegion;
  readonly #timer: NodeJS.Timeout;
  readonly #onResize = () => this.#draw();
  readonly #onExit = () => this[Symbol.dispose]();
  /** What a process has written ends inside a line, so there is no row that is ours. */
  #midLine = false;
  #ended = false;

  constructor(title: string, terminal: Terminal) {
    this.#title = title;
    this.#terminal = terminal;
    this.#region = new LiveRegion(terminal.stderr);
    this.#timer = setInterval(() => this.#draw(), frameMs).unref();
    terminal.stderr.on("resize", this.#onResize);
    // A cursor that stays hidden outlives us: it comes back however the process ends.
    terminal.on("exit", this.#onExit);
  }

  update(update: StatusUpdate): void {
    this.#progress.apply(update);
  }

  async passThrough(stream: OutputStream, data: Uint8Array): Promise<void> {
    if (stream.isTTY !== true) {
      return await write(stream, data);
    }
    this.#region.erase();
    this.#midLine = data.at(-1) !== 0x0a;
    await write(stream, data);
  }

  end(): void {
    if (this.#midLine) {
      this.#midLine = false;
      this.#terminal.stderr.write("\n");
    }
    this.#progress.end();
    this.#draw(Number.POSITIVE_INFINITY);
    this.#region.leave();
    this.#ended = true;
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#terminal.stderr.off("resize", this.#onResize);
    this.#terminal.off("exit", this.#onExit);
    this.#region[Symbol.dispose]();
  }

  /** @param rows most rows that are drawn; the last state, which stays, may scroll. */
  #draw(rows = this.#region.rows - spareRows): void {
    if (this.#midLine || this.#ended) {
      return;
    }
    const { env } = this.#terminal;
    const lines = treeLines(this.#title, this.#progress, {
      // The last column stays free: some terminals wrap when it is written to.
      width: this.#region.columns - 1,
      height: Math.max(2, rows),
      nowMs: Date.now(),
      symbols: symbolsFor(env),
      paint: paintFor(env),
    });
    this.#region.draw(lines, lines.map(stripVTControlCharacters));
  }
}

/** Writes `data` and waits until the next may follow. */
async function write(stream: OutputStream, data: Uint8Array): Promise<void> {
  if (!stream.write(data)) {
    await new Promise<void>((resolve) => {
      const settle = () => {
        stream.off("drain", settle);
        stream.off("error", settle);
        resolve();
      };
      stream.on("drain", settle);
      stream.on("error", settle);
    });
  }
}
