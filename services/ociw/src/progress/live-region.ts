import type { OutputStream } from "../terminal.ts";
import { textWidth } from "./text-width.ts";

// Control sequences (ECMA-48; DECTCEM of the VT220 for the cursor).
const hideCursor = "\x1b[?25l";
const showCursor = "\x1b[?25h";
const eraseBelow = "\x1b[J";
const eraseToEnd = "\x1b[K";
const upBy = (rows: number) => (rows === 0 ? "\r" : `\x1b[${rows}A\r`);

/** A terminal that does not say how large it is. */
const defaultSize = { columns: 80, rows: 24 };

/** Lines at the bottom of a terminal that are drawn anew in place. */
export class LiveRegion implements Disposable {
  readonly #stream: OutputStream;
  /** Widths of the lines that are there, in columns. */
  #widths: readonly number[] = [];
  #cursorHidden = false;

  constructor(stream: OutputStream) {
    this.#stream = stream;
  }

  get columns(): number {
    return this.#stream.columns || defaultSize.columns;
  }

  get rows(): number {
    return this.#stream.rows || defaultSize.rows;
  }

  /**
   * Puts `lines` where the last ones were.
   *
   * @param visible the same lines without control sequences.
   */
  draw(lines: readonly string[], visible: readonly string[]): void {
    const cursor = this.#cursorHidden ? "" : hideCursor;
    this.#cursorHidden = true;
    // Each line is written over the old one, and only what is left of that is erased: nothing flickers.
    const text = lines.map((line) => `${line}${eraseToEnd}\n`).join("");
    this.#stream.write(`${cursor}${this.#toTop()}${text}${eraseBelow}`);
    this.#widths = visible.map(textWidth);
  }

  /** Takes the lines away, so that something else can be written in their place. */
  erase(): void {
    if (this.#widths.length > 0) {
      this.#stream.write(this.#toTop() + eraseBelow);
      this.#widths = [];
    }
  }

  /** Leaves the lines where they are. */
  leave(): void {
    this.#widths = [];
  }

  [Symbol.dispose](): void {
    if (this.#cursorHidden) {
      this.#cursorHidden = false;
      this.#stream.write(showCursor);
    }
  }

  /** To the first of our lines: one that was drawn on a wider terminal takes several rows of a narrower one. */
  #toTop(): string {
    const rows = this.#widths.reduce((sum, width) => sum + Math.max(1, Math.ceil(width / this.columns)), 0);
    return upBy(rows);
  }
}
