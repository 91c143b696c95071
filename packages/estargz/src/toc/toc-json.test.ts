import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError, ResourceExhaustedError, ServiceError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { type EntryFields, type Field, field, fieldNames } from "./entry-fields.ts";
import { kinds } from "./json-scanner.ts";
import { TocJson } from "./toc-json.ts";

type Shown = Record<string, unknown>;

const kindNames = Object.keys(kinds);

/** What is read of an entry: texts and numbers as they are, of anything else what it is. */
function shownFields(fields: EntryFields): Shown {
  const shown: Shown = {};
  for (const [index, name] of fieldNames.entries()) {
    const kind = fields.kindOf(index as Field);
    if (kind === kinds.text) {
      shown[name] = fields.textOf(index as Field);
    } else if (kind === kinds.number) {
      shown[name] = fields.numbers[index];
    } else if (kind !== kinds.absent) {
      shown[name] = `(${kindNames[kind]})`;
    }
  }
  return shown;
}

/** The same of what JSON.parse has made. */
function shownObject(entry: Readonly<Record<string, unknown>>): Shown {
  const shown: Shown = {};
  for (const name of Object.keys(field)) {
    if (Object.hasOwn(entry, name)) {
      const value = entry[name];
      const isPlain = typeof value === "string" || typeof value === "number";
      const kind = value === null ? "null" : Array.isArray(value) ? "list" : typeof value;
      shown[name] = isPlain ? value : `(${kind})`;
    }
  }
  return shown;
}

/** The entries of `json`, which comes in pieces whose memory is used again. */
function entriesOf(json: Buffer, pieceBytes: number): Shown[] {
  const entries: Shown[] = [];
  const reader = new TocJson((fields) => entries.push(shownFields(fields)), 1000);
  const piece = Buffer.alloc(pieceBytes);
  for (let at = 0; at < json.length; at += pieceBytes) {
    const length = json.copy(piece, 0, at);
    reader.write(piece.subarray(0, length));
    piece.fill("{");
  }
  reader.end();
  return entries;
}

/**
 * What JSON.parse makes of it; undefined if it is no TOC.
 *
 * A list of entries that comes twice it does not see, so this looks for it where the outermost object says.
 */
function parsed(json: Buffer): Shown[] | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json);
    let lists = 0;
    const toc = JSON.parse(text, function (this: unknown, key, value) {
      lists += key === "entries" && isToc(this) ? 1 : 0;
      return value;
    }) as { version: unknown; entries: unknown };
    const { version, entries } = toc;
    const list = entries === null ? [] : entries;
    const isRight = version === 1 && Array.isArray(list) && list.every(isObject) && lists === 1;
    return isRight ? list.map((entry) => shownObject(entry)) : undefined;
  } catch {
    return undefined;
  }
}

function isToc(value: unknown): boolean {
  return isObject(value) && Object.hasOwn(value, "version");
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const letters = ['"', "\\", "{", "}", "[", "]", ",", ":", "a", "é", "\u{1f600}", "\n", "\0", "\ud800"];
const text = fc.string({ unit: fc.constantFrom(...letters), maxLength: 20 });
// JSON.parse of Node 26.10 takes a key `\"` for a key `\` once it has seen that one: not both.
const unknownKey = fc.string({ unit: fc.constantFrom(...letters.filter((letter) => letter !== "\\")) });
const key = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...fieldNames) }, unknownKey);
const number = fc.oneof(fc.nat(), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.maxSafeInteger());
const value = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 3 },
    text,
    number,
    fc.constantFrom(null, true, false),
    fc.array(tie("any"), { maxLength: 3 }),
    fc.dictionary(key, tie("any"), { maxKeys: 3 }),
  ),
})).any;
const entry = fc.dictionary(key, value, { maxKeys: 6 });
const pieceBytes = fc.integer({ min: 1, max: 60 });
const toc = fc
  .record({
    entries: fc.array(entry, { maxLength: 6 }),
    more: fc.dictionary(unknownKey, value, { maxKeys: 2 }),
  })
  .map(({ entries, more }) => ({ ...more, version: 1, entries, last: more }));

/** Writes `json` with escapes in place of all that is not a letter of ASCII, where that means the same. */
function escaped(json: string): string {
  return json.replaceAll(/(?<!\\)[^\0-\x7f]|(?<=[a-z])[a-z](?=[A-Z":])/g, (character) =>
    [...Array(character.length).keys()]
      .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}

describe("TocJson", () => {
  test("reads what JSON.parse reads, however it is written and cut into pieces", () => {
    fc.assert(
      fc.property(
        toc,
        pieceBytes,
        fc.constantFrom("", "\t", " \t"),
        fc.boolean(),
        (object, bytes, indent, isEscaped) => {
          const written = JSON.stringify(object, null, indent);
          const json = Buffer.from(isEscaped ? escaped(written) : written);
          assert.deepEqual(entriesOf(json, bytes), parsed(json));
        },
      ),
      { numRuns: 500, seed: 20_261_125 },
    );
  });

  test("refuses what JSON.parse refuses, and nothing else", () => {
    const places = fc.array(
      fc.tuple(fc.nat(), fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from('{}[],:"\\019-.eu')))),
      {
        minLength: 1,
        maxLength: 3,
      },
    );
    const base = fc.oneof(
      toc.map((object) => JSON.stringify(object)),
      fc.constant(
        '{"version":1,"entries":[{"name":"b","size":10},{"type":[{"d":1.5e-3}],"xattrs":{"u":"\\u00e9"}}]}',
      ),
    );
    let [refused, taken] = [0, 0];
    fc.assert(
      fc.property(base, places, pieceBytes, (good, changes, bytes) => {
        const json = Buffer.from(good);
        for (const [at, byte] of changes) {
          json[at % json.length] = byte;
        }
        const wanted = parsed(json);
        let got: Shown[] | undefined;
        try {
          got = entriesOf(json, bytes);
          taken += 1;
        } catch (error) {
          assert(error instanceof InvalidArgumentError, String(error));
          refused += 1;
        }
        assert.deepEqual(got, wanted, json.toString());
      }),
      { numRuns: 4000, seed: 20_261_126 },
    );
    assert(refused > 1000 && taken > 40, `refused ${refused}, taken ${taken}`);
  });

  test("tells a key that is a quotation mark from one that is a backslash", () => {
    const xattrs = '{"\\\\":"YQ==","\\"":"Yg=="}';
    const json = Buffer.from(
      `{"version":1,"\\\\":1,"\\"":2,"entries":[{"\\\\":1,"\\"":2,"name":"a","xattrs":${xattrs}}]}`,
    );
    assert.deepEqual(entriesOf(json, 5), [{ name: "a", xattrs: "(object)" }]);
  });

  test("takes the last of a name that an entry has twice", () => {
    const json = Buffer.from(
      '{"version":2,"version":1,"entries":[{"size":{},"name":"a","size":1,"n\\u0061me":"b"}]}',
    );
    assert.deepEqual(entriesOf(json, 100), [{ name: "b", size: 1 }]);
  });

  test("takes lists in lists as deep as they come", () => {
    const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
    const json = Buffer.from(`{"version":1,"entries":[{"name":"a","more":${deep}}]}`);
    assert.deepEqual(entriesOf(json, 4096), [{ name: "a" }]);
  });

  test("takes no more memory than one entry, and refuses what never ends", () => {
    const endless = Buffer.alloc(1024 * 1024 + 1, "x");
    for (const start of ['{"version":1,"entries":[{"', '{"']) {
      const reader = new TocJson(() => undefined, 10);
      reader.write(Buffer.from(start));
      assert.throws(() => reader.write(endless), ResourceExhaustedError);
    }
    const blanks = new TocJson(() => undefined, 10);
    blanks.write(Buffer.from('{"version":1,"entries":[]} '));
    assert.throws(() => {
      for (let count = 0; count < 100; count += 1) {
        blanks.write(Buffer.alloc(1024, " "));
      }
    }, ServiceError);
  });
});
