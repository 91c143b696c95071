import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { readNumber, writeOctal } from "./number.ts";

const read = (field: string | Buffer) => {
  const block = Buffer.from(field as string, "latin1");
  return readNumber(block, 0, block.length, "size");
};

describe("readNumber", () => {
  const numbers = [
    { name: "octal with a NUL", field: "0000644\0", want: 0o644 },
    { name: "octal with a blank and a NUL", field: " 00644 \0", want: 0o644 },
    { name: "octal that fills the field", field: "77777777", want: 0o77777777 },
    { name: "what follows a NUL is not read", field: "644\0garb", want: 0o644 },
    { name: "NULs only", field: "\0\0\0\0\0\0\0\0", want: 0 },
    { name: "blanks only", field: "        ", want: 0 },
    { name: "base-256", field: "\x80\0\0\0\0\0\x01\x02", want: 258 },
    { name: "base-256 that is negative", field: "\xff\xff\xff\xff\xff\xff\xff\xfe", want: -2 },
    { name: "base-256 beyond octal", field: "\x80\0\0\0\0\0\0\x02\0\0\0\0", want: 2 ** 33 },
  ];
  for (const { name, field, want } of numbers) {
    test(`reads ${name}`, () => assert.equal(read(field), want));
  }

  const malformed = [
    {
      name: "a digit that is not octal",
      field: "0000648\0",
      message: /size is "0000648\\u0000", want octal/,
    },
    { name: "a sign", field: "-000644\0", message: /want octal digits/ },
    { name: "digits after a blank", field: "06 44  \0", message: /want octal digits/ },
    { name: "more than a double holds", field: `\x80${"\xff".repeat(11)}`, message: /out of range/ },
    { name: "less than a double holds", field: `\xc0${"\0".repeat(11)}`, message: /out of range/ },
  ];
  for (const { name, field, message } of malformed) {
    test(`refuses ${name}`, () => {
      assert.throws(
        () => read(field),
        (error) => error instanceof InvalidArgumentError && message.test(error.message),
      );
    });
  }

  test("reads what writeOctal writes, and 0 where that does not fit", () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.constantFrom(8, 12), (value, length) => {
        const block = Buffer.alloc(length);
        const fits = writeOctal(block, 0, length, value);
        assert.equal(fits, value >= 0 && value < 8 ** (length - 1));
        assert.equal(readNumber(block, 0, length, "size"), fits ? value : 0);
      }),
    );
  });

  test("gives a safe integer or a clear error for any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 12 }), (bytes) => {
        try {
          assert(Number.isSafeInteger(read(Buffer.from(bytes))));
        } catch (error) {
          assert(error instanceof InvalidArgumentError);
        }
      }),
    );
  });
});
