import { StringDecoder } from "node:string_decoder";
import type { Logger } from "pino";
import type { VertexState } from "../solver/progress.ts";

/** A longer line is logged in pieces, in characters. */
const maxLineLength = 16 * 1024;

const streamNames = { 1: "stdout", 2: "stderr" } as const;

/** Writes what a step prints to the worker's own log, a line for each of its lines. */
export class StepEcho implements Disposable {
  readonly #log: Logger;
  readonly #streams = {
    1: { decoder: new StringDecoder(), rest: "" },
    2: { decoder: new StringDecoder(), rest: "" },
  };

  /** @param vertex of the step. */
  constructor(log: Logger, { digest, name }: Pick<VertexState, "digest" | "name">) {
    // Who asks for it gets it, whatever the level of the log.
    this.#log = log.child({ vertex: digest, step: name }, { level: "info" });
  }

  write(stream: 1 | 2, chunk: Uint8Array): void {
    const state = this.#streams[stream];
    const lines = (state.rest + state.decoder.write(chunk)).split("\n");
    state.rest = lines.pop() ?? "";
    for (const line of lines) {
      this.#line(stream, line);
    }
    while (state.rest.length > maxLineLength) {
      this.#line(stream, state.rest.slice(0, maxLineLength));
      state.rest = state.rest.slice(maxLineLength);
    }
  }

  /** What ends without the end of a line is one, too. */
  [Symbol.dispose](): void {
    for (const stream of [1, 2] as const) {
      const { decoder, rest } = this.#streams[stream];
      const last = rest + decoder.end();
      if (last !== "") {
        this.#line(stream, last);
      }
    }
  }

  #line(stream: 1 | 2, line: string): void {
    this.#log.info({ stream: streamNames[stream], line: line.replace(/\r$/, "") }, "step has printed");
  }
}
