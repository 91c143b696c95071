import assert from "node:assert/strict";
import { mkdtempDisposable, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { tokenSeedsIn } from "./token-seeds.ts";

test("a seed is kept for the next process, each host has its own, and only the user may read them", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "seeds-"));
  const directory = join(dir.path, "docker");
  const first = await tokenSeedsIn(directory).seedFor("a");
  assert.equal(first.length, 16);
  assert.deepEqual(await tokenSeedsIn(directory).seedFor("a"), first);
  assert.notDeepEqual(await tokenSeedsIn(directory).seedFor("b"), first);
  assert.deepEqual(await tokenSeedsIn(directory).seedFor("a"), first);
  assert.equal((await stat(join(directory, ".token_seed"))).mode & 0o777, 0o600);
  assert.deepEqual(await readdir(directory), [".token_seed"]);
});

test("a file that BuildKit's client has written is read and added to", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "seeds-"));
  const path = join(dir.path, ".token_seed");
  await writeFile(path, JSON.stringify({ a: { Seed: Buffer.alloc(16, 7).toString("base64") } }));
  const seeds = tokenSeedsIn(dir.path);
  assert.deepEqual(Buffer.from(await seeds.seedFor("a")), Buffer.alloc(16, 7));
  await seeds.seedFor("b");
  assert.deepEqual(Object.keys(JSON.parse(await readFile(path, "utf8"))), ["a", "b"]);
});

test("a damaged file costs new seeds and nothing else", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "seeds-"));
  await writeFile(join(dir.path, ".token_seed"), "{");
  assert.equal((await tokenSeedsIn(dir.path).seedFor("a")).length, 16);
});

test("where nothing can be written a seed lives as long as the process", async () => {
  const seeds = tokenSeedsIn("/dev/null/docker");
  assert.deepEqual(await seeds.seedFor("a"), await seeds.seedFor("a"));
  assert.notDeepEqual(await seeds.seedFor("a"), await seeds.seedFor("b"));
});
