import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

const top = join(import.meta.dirname, "../../..");
const generated = "packages/api/src/gen";

test("the generated code is what buf makes of proto/ today", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "generated-"));
  await promisify(execFile)("npx", ["--no-install", "buf", "generate", "--output", directory.path], {
    cwd: top,
  });
  const fresh = await textsIn(join(directory.path, generated));
  assert(fresh.size > 0);
  assert.deepEqual(
    await textsIn(join(top, generated)),
    fresh,
    "run `npm run generate` and commit what it makes",
  );
});

/** The files beneath `directory` by their paths in it, sorted. */
async function textsIn(directory: string): Promise<Map<string, string>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = entries.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name));
  const texts = paths.toSorted().map(async (path) => {
    return [path.slice(directory.length), await readFile(path, "utf8")] as const;
  });
  return new Map(await Promise.all(texts));
}
