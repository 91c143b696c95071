import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Random } from "./random.ts";

/** Files of the layer beneath all others: enough that a backend that copies them is often killed at it. */
const baseFiles = 300;
const baseFilesRead = 10;

/** A file has so many bytes at most. */
const maxBytes = 20_000;

/** Files by their names. */
export type Files = ReadonlyMap<string, string>;

/** Fills the layer beneath all others. */
export function writeBase(path: string): void {
  mkdirSync(join(path, "base"));
  for (let index = 0; index < baseFiles; index += 1) {
    writeFileSync(join(path, "base", `${index}`), baseText(index));
  }
}

/** Makes, changes and deletes files at `path`, which holds `files`. @returns those that it holds now. */
export function changeFiles(path: string, files: Files, random: Random): Files {
  const changed = new Map(files);
  for (let changes = random.below(5) + 1; changes > 0; changes -= 1) {
    const name = `file ${random.below(12)}`;
    if (changed.has(name) && random.chance(30)) {
      rmSync(join(path, name));
      changed.delete(name);
    } else {
      const text = `${random.below(2 ** 32)} `.repeat(random.below(maxBytes / 11));
      writeFileSync(join(path, name), text);
      changed.set(name, text);
    }
  }
  return changed;
}

/** Asserts that `path` shows the base layer and `files` over it, and nothing else. */
export function assertContent(path: string, files: Files, random: Random): void {
  assert.deepEqual(readdirSync(path).sort(), ["base", ...files.keys()].sort());
  for (const [name, text] of files) {
    assert(readFileSync(join(path, name), "utf8") === text, `${name} has other content`);
  }
  assert.equal(readdirSync(join(path, "base")).length, baseFiles);
  for (let read = 0; read < baseFilesRead; read += 1) {
    const index = random.below(baseFiles);
    const text = readFileSync(join(path, "base", `${index}`), "utf8");
    assert(text === baseText(index), `base/${index} has other content: ${text.length} characters`);
  }
}

function baseText(index: number): string {
  return `${index}\n`.repeat(index * 3);
}
