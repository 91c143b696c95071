import assert from "node:assert/strict";
import { chmod, mkdir, mkdtempDisposable, rename, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError, UnavailableError } from "@oci-worker/errdefs";
import { FreshFile } from "./fresh-file.ts";

/** A file that may come, and how often it has been parsed. */
async function scene() {
  const directory = await mkdtempDisposable(join(tmpdir(), "fresh-"));
  const path = join(directory.path, "file");
  let parsed = 0;
  const file = new FreshFile(path, 100, (bytes) => {
    parsed += 1;
    const text = bytes.toString();
    if (text === "bad") {
      throw new InvalidArgumentError("want something else");
    }
    return text;
  });
  return {
    path,
    file,
    parsed: () => parsed,
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

describe("a fresh file", () => {
  test("comes, changes and goes", async () => {
    await using it = await scene();
    assert.equal(await it.file.read(), undefined);
    for (const text of ["one", "two", "six"]) {
      await writeFile(it.path, text);
      assert.equal(await it.file.read(), text);
    }
    await rm(it.path);
    assert.equal(await it.file.read(), undefined);
  });

  test("is parsed once for as long as it says the same", async () => {
    await using it = await scene();
    for (const [text, parsed] of [
      ["one", 1],
      ["one", 1],
      ["two", 2],
      ["one", 3],
    ] as const) {
      await writeFile(it.path, text);
      for (const _ of [1, 2, 3]) {
        assert.equal(await it.file.read(), text);
      }
      assert.equal(it.parsed(), parsed);
    }
    await chmod(it.path, 0o600);
    await it.file.read();
    assert.equal(it.parsed(), 4);
    // A time of the past fools nobody: the kernel itself sets that of the change.
    await writeFile(it.path, "two");
    await utimes(it.path, 1, 1);
    assert.equal(await it.file.read(), "two");
  });

  test("is followed where a directory is exchanged as a whole, as Kubernetes does it", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "fresh-"));
    const at = (name: string) => join(directory.path, name);
    const file = new FreshFile(at("file"), 100, String);
    await symlink("..data/file", at("file"));
    for (const text of ["one", "two"]) {
      await mkdir(at(`..${text}`));
      await writeFile(join(at(`..${text}`), "file"), text);
      await symlink(`..${text}`, at("..data_tmp"));
      await rename(at("..data_tmp"), at("..data"));
      assert.equal(await file.read(), text);
    }
  });

  test("that is no good is told by its name, and read again", async () => {
    await using it = await scene();
    const fails = (message: RegExp) =>
      assert.rejects(
        it.file.read(),
        (error) => error instanceof UnavailableError && message.test(error.message),
      );
    await writeFile(it.path, "bad");
    await fails(/^Cannot use \/.*\/file: want something else$/);
    await fails(/want something else/);
    await writeFile(it.path, "x".repeat(101));
    await fails(/it has 101 bytes, want at most 100$/);
    await rm(it.path);
    await mkdir(it.path);
    await fails(/it is no regular file$/);
    const beyond = new FreshFile(join(it.path, "x".repeat(300)), 100, String);
    await assert.rejects(beyond.read(), /it cannot be read \(ENAMETOOLONG\)$/);
  });
});
