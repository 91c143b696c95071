import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { pino } from "pino";
import { KeyTexts } from "./key-texts.ts";

/** Those kept in the database at `path`. */
function opened(path: string): KeyTexts {
  const texts = new KeyTexts(pino({ level: "silent" }));
  texts.open(path);
  return texts;
}

/** A text, and the key that is made of it. */
const keyText = (text: string) => ({ key: digestOf(text), text, description: text.slice(0, 10) });

describe("what cache keys are made of", () => {
  test("is kept across restarts, the last first, once each", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "keys-"));
    const path = join(directory.path, "keys.db");
    const [a, b] = [keyText("a"), keyText("b")];
    {
      using texts = opened(path);
      texts.note(a);
      texts.note(b);
      texts.note(a);
    }
    using texts = opened(path);
    assert.deepEqual(texts.all(), [a, b]);
  });

  test("is found with the keys of inputs that are in it, and theirs", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "keys-"));
    using texts = opened(join(directory.path, "keys.db"));
    const base = keyText("base");
    const first = keyText(`["first","${base.key}@0","${digestOf("not a key")}"]`);
    const last = keyText(`["last","${first.key}@0","${base.key}@0"]`);
    for (const each of [base, first, last, keyText("other")]) {
      texts.note(each);
    }
    assert.deepEqual(texts.lookup(last.key), [last, first, base]);
    assert.deepEqual(texts.lookup(digestOf("none")), []);
    assert.deepEqual(texts.lookup("x"), []);
  });

  test("fails no build if it cannot be kept", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "keys-"));
    const path = join(directory.path, "keys.db");
    using texts = opened(path);
    using other = new DatabaseSync(path);
    other.exec("DROP TABLE key_texts");
    texts.note(keyText("a"));
  });

  test("is nothing that can be asked for before it is kept, and after", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "keys-"));
    const texts = new KeyTexts(pino({ level: "silent" }));
    texts.note(keyText("a"));
    assert.throws(() => texts.all(), FailedPreconditionError);
    texts.open(join(directory.path, "keys.db"));
    assert.deepEqual(texts.all(), []);
    texts[Symbol.dispose]();
    texts.note(keyText("a"));
    assert.throws(() => texts.lookup(keyText("a").key), /want the worker started with --save-cache-debug/);
  });

  test("is not kept in what is no database", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "keys-"));
    const path = join(directory.path, "keys.db");
    await writeFile(path, "something else, and long enough to be a header of a database of SQLite");
    assert.throws(() => opened(path), FailedPreconditionError);
  });
});
