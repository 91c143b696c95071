import assert from "node:assert/strict";
import { test } from "node:test";
import type { OutputStream } from "../terminal.ts";
import { LiveRegion } from "./live-region.ts";

const escapeCharacter = "\x1b";
/** A control sequence, or a character that is shown. */
const token = new RegExp(`${escapeCharacter}\\[[?0-9]*[A-Za-z]|[^${escapeCharacter}]`, "g");

/** A terminal that does what we ask of one, and nothing more: text, line ends, cursor up, erase. */
class Screen implements OutputStream {
  readonly isTTY = true;
  columns: number;
  readonly rows = 10;
  readonly lines: string[] = [""];
  cursorHidden = false;
  #row = 0;
  #column = 0;

  constructor(columns: number) {
    this.columns = columns;
  }

  write(data: string | Uint8Array): boolean {
    for (const each of String(data).match(token) ?? []) {
      this.#take(each);
    }
    return true;
  }

  on(): void {}
  off(): void {}

  /** Narrower: lines that are too long take several rows, as terminals break them anew. */
  resize(columns: number): void {
    this.columns = columns;
    const broken = this.lines.flatMap((line) => line.match(new RegExp(`.{1,${columns}}`, "g")) ?? [""]);
    this.lines.splice(0, this.lines.length, ...broken);
    this.#row = this.lines.length - 1;
    this.#column = 0;
  }

  #take(each: string): void {
    const line = this.lines[this.#row] ?? "";
    switch (each) {
      case "\n":
        this.#row += 1;
        this.#column = 0;
        this.lines[this.#row] ??= "";
        return;
      case "\r":
        this.#column = 0;
        return;
      case "\x1b[J":
        this.lines.length = this.#row + 1;
        this.lines[this.#row] = line.slice(0, this.#column);
        return;
      case "\x1b[K":
        this.lines[this.#row] = line.slice(0, this.#column);
        return;
      case "\x1b[?25l":
      case "\x1b[?25h":
        this.cursorHidden = each.endsWith("l");
        return;
    }
    if (each.startsWith(escapeCharacter) && each.endsWith("A")) {
      this.#row -= Number.parseInt(each.slice(2), 10);
      return;
    }
    this.lines[this.#row] = line.slice(0, this.#column) + each + line.slice(this.#column + 1);
    this.#column += 1;
  }
}

function draw(region: LiveRegion, lines: readonly string[]): void {
  region.draw(lines, lines);
}

test("lines are drawn over the last ones, more or fewer, and what stands above stays", () => {
  const screen = new Screen(40);
  screen.write("$ ociw run\n");
  const region = new LiveRegion(screen);
  draw(region, ["title", "a long first step", "second"]);
  draw(region, ["title", "short"]);
  assert.deepEqual(screen.lines, ["$ ociw run", "title", "short", ""]);
  draw(region, ["title", "one", "two", "three"]);
  assert.deepEqual(screen.lines, ["$ ociw run", "title", "one", "two", "three", ""]);
});

test("what is written in between comes above the lines", () => {
  const screen = new Screen(40);
  const region = new LiveRegion(screen);
  draw(region, ["title", "step"]);
  region.erase();
  screen.write("output\n");
  draw(region, ["title", "step done"]);
  assert.deepEqual(screen.lines, ["output", "title", "step done", ""]);
});

test("a terminal that was made narrower is cleaned of all the rows that the lines take now", () => {
  const screen = new Screen(30);
  screen.write("before\n");
  const region = new LiveRegion(screen);
  draw(region, ["x".repeat(25), "y".repeat(10)]);
  screen.resize(10);
  draw(region, ["narrow"]);
  assert.deepEqual(screen.lines, ["before", "narrow", ""]);
});

test("the cursor is hidden while lines are drawn, and comes back", () => {
  const screen = new Screen(30);
  {
    using region = new LiveRegion(screen);
    assert.equal(screen.cursorHidden, false);
    draw(region, ["x"]);
    assert.equal(screen.cursorHidden, true);
  }
  assert.equal(screen.cursorHidden, false);
});

test("lines that are left stay", () => {
  const screen = new Screen(30);
  const region = new LiveRegion(screen);
  draw(region, ["final"]);
  region.leave();
  draw(region, ["next"]);
  assert.deepEqual(screen.lines, ["final", "next", ""]);
});
