const simple: Readonly<Record<string, number>> = {
  a: 0x07,
  b: 0x08,
  f: 0x0c,
  n: 0x0a,
  r: 0x0d,
  t: 0x09,
  v: 0x0b,
};

const piece =
  /\\(?:([abfnrtv])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([\\"/|]))|[^\\]+/gu;

/**
 * What a Go string literal says (Go language specification, "String literals"). `quoted` is one as the scanner takes
 * it, its first and last character being the quote.
 *
 * Octal and `\x` escapes are bytes, several of which may form one character.
 *
 * @returns undefined if an escape is of a value that does not exist.
 */
export function unquote(quoted: string): string | undefined {
  const inner = quoted.slice(1, -1);
  if (!inner.includes("\\")) {
    return inner;
  }
  const bytes: Buffer[] = [];
  for (const [text, letter, octal, hex, short, long, itself] of inner.matchAll(piece)) {
    if (letter !== undefined) {
      bytes.push(Buffer.of(simple[letter] ?? 0));
    } else if (octal !== undefined) {
      const value = Number.parseInt(octal, 8);
      if (value > 0xff) {
        return undefined;
      }
      bytes.push(Buffer.of(value));
    } else if (hex !== undefined) {
      bytes.push(Buffer.of(Number.parseInt(hex, 16)));
    } else if (short !== undefined || long !== undefined) {
      const value = Number.parseInt(short ?? long ?? "", 16);
      if (value > 0x10ffff) {
        return undefined;
      }
      bytes.push(Buffer.from(String.fromCodePoint(value).toWellFormed()));
    } else {
      bytes.push(Buffer.from(itself ?? text));
    }
  }
  return Buffer.concat(bytes).toString("utf8");
}
