import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { type ByteString, byteString, byteStringOf, bytesOf } from "./byte-string.ts";
import { paxNumber, paxTimeNs, paxTimeOf, readPax, writePax } from "./pax.ts";

const records = (key: string, value: string) => readPax(writePax(new Map([[key, byteStringOf(value)]])));

function assertInvalid(read: () => unknown, message: RegExp): void {
  assert.throws(read, (error) => error instanceof InvalidArgumentError && message.test(error.message));
}

describe("readPax", () => {
  test("gives back what writePax wrote, whatever the bytes", () => {
    const key = fc.uint8Array({ minLength: 1, maxLength: 20 }).map((bytes) => byteString(Buffer.from(bytes)));
    const value = fc.uint8Array({ maxLength: 300 }).map((bytes) => byteString(Buffer.from(bytes)));
    fc.assert(
      fc.property(fc.array(fc.tuple(key, value), { maxLength: 8 }), (pairs) => {
        const kept = pairs.filter(([name]) => !/[=\0]|^(path|linkpath|GNU\.sparse.*)$/.test(name));
        assert.deepEqual(readPax(writePax(new Map(kept))).values, new Map(kept));
      }),
    );
  });

  test("counts the digits of a length that needs one more for itself", () => {
    for (let length = 90; length < 110; length += 1) {
      const body = writePax(new Map([["k", "v".repeat(length) as ByteString]]));
      assert.equal(body.toString().split(" ")[0], String(body.length));
    }
  });

  test("takes the last of a key", () => {
    assert.equal(readPax(Buffer.from("9 path=a\n9 path=b\n")).values.get("path"), "b");
  });

  const malformed = [
    { name: "no length", body: "path=a\n" },
    { name: "an empty length", body: " path=a\n" },
    { name: "a length beyond the end", body: "99 path=a\n" },
    { name: "a length that ends within the value", body: "8 path=a\n" },
    { name: "a length within its own digits", body: "1 path=a\n" },
    { name: "a length with too many digits", body: "000000009 path=a\n" },
    { name: "no newline", body: "9 path=ab" },
    { name: "no key", body: "6 =ab\n" },
    { name: "no equals sign", body: "8 pathab\n" },
    { name: "NULs after the last record", body: "9 path=a\n\0\0\0" },
  ];
  for (const { name, body } of malformed) {
    test(`refuses ${name}`, () => assertInvalid(() => readPax(Buffer.from(body)), /is malformed/));
  }

  test("refuses a NUL in a name, which would end it early for the kernel", () => {
    assertInvalid(() => readPax(Buffer.from("12 path=a\0b\n")), /"path" has a NUL/);
    assertInvalid(() => readPax(Buffer.from("9 a\0b=cd\n")), /has a NUL/);
  });

  test("refuses sparse pairs that do not alternate", () => {
    assertInvalid(() => records("GNU.sparse.numbytes", "1"), /must alternate/);
  });

  test("ends with records or a clear error for any bytes", () => {
    const likely = fc
      .array(fc.constantFrom("5 ", "9 ", "path", "=", "\n", "a", "\0", "12 "))
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(fc.oneof(likely, fc.string()), (body) => {
        try {
          readPax(Buffer.from(body));
        } catch (error) {
          assert(error instanceof InvalidArgumentError);
        }
      }),
    );
  });
});

describe("paxNumber", () => {
  test("reads digits, and nothing for an empty value", () => {
    assert.equal(paxNumber(records("size", "12345678901"), "size"), 12345678901);
    assert.equal(paxNumber(records("size", ""), "size"), undefined);
    assert.equal(paxNumber(records("path", "x"), "size"), undefined);
  });

  for (const text of ["-1", "+1", "1e3", "0x10", "1.5", " 1", "9007199254740992", "99999999999999999"]) {
    test(`refuses ${JSON.stringify(text)}`, () => {
      assertInvalid(() => paxNumber(records("size", text), "size"), /size is .*want a whole number/);
    });
  }
});

describe("paxTimeNs", () => {
  const times = [
    { text: "1700000000", want: 1_700_000_000_000_000_000n },
    { text: "1700000000.123456789", want: 1_700_000_000_123_456_789n },
    { text: "1700000000.1234567899", want: 1_700_000_000_123_456_789n },
    { text: "1.5", want: 1_500_000_000n },
    { text: "1.", want: 1_000_000_000n },
    { text: "-1.25", want: -1_250_000_000n },
  ];
  for (const { text, want } of times) {
    test(`reads ${text}`, () => assert.equal(paxTimeNs(records("mtime", text), "mtime"), want));
  }

  for (const text of [".5", "now", "1,5", "--1", "1e9", "1".repeat(20)]) {
    test(`refuses ${text}`, () => {
      assertInvalid(() => paxTimeNs(records("mtime", text), "mtime"), /want seconds since 1970/);
    });
  }

  test("reads what paxTimeOf writes", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 62n), max: 2n ** 62n }), (ns) => {
        const body = writePax(new Map([["mtime", paxTimeOf(ns)]]));
        assert.equal(paxTimeNs(readPax(body), "mtime"), ns);
      }),
    );
  });
});

test("names that are not UTF-8 keep their bytes", () => {
  const name = byteString(Buffer.from([0x66, 0xfc, 0xff, 0x80]));
  const read = readPax(writePax(new Map([["path", name]]))).values.get("path");
  assert.deepEqual(bytesOf(read as ByteString), Buffer.from([0x66, 0xfc, 0xff, 0x80]));
});
