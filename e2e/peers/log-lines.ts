import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

/** A line that has not come by then is not going to: the test fails instead of waiting for ever. */
const patienceMs = 120_000;

/** What a process writes, line by line, for tests that wait for it to say something. */
export class LogLines {
  readonly lines: string[] = [];
  readonly #news = new EventTarget();

  /** Adds every line of `stream`, and has `onLine` see it. */
  read(stream: Readable, onLine: (line: string) => void = () => undefined): void {
    createInterface(stream).on("line", (line) => {
      this.lines.push(line);
      onLine(line);
      this.#news.dispatchEvent(new Event("line"));
    });
  }

  /**
   * Resolves with the first line from the line `from` on that matches `pattern`.
   *
   * @param ended resolves when nothing more will come.
   * @throws with all that was said, if none comes.
   */
  async said(pattern: RegExp, from: number, ended: Promise<unknown>): Promise<string> {
    const none = new AbortController();
    const timer = setTimeout(() => none.abort(), patienceMs);
    const stop = () => none.abort();
    ended.then(stop, stop);
    try {
      for (;;) {
        const line = this.lines.slice(from).find((each) => pattern.test(each));
        if (line !== undefined) {
          return line;
        }
        await once(this.#news, "line", { signal: none.signal });
      }
    } catch (cause) {
      throw new Error(`there was no line like ${pattern} among:\n${this.lines.join("\n")}`, { cause });
    } finally {
      clearTimeout(timer);
    }
  }
}
