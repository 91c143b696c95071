const control = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu;

/**
 * A name as a person can read it in one line: what would steer the terminal, and bytes that are no UTF-8, are written as
 * `\xNN` or `\u{N}`.
 */
export function printable(name: string | Buffer): string {
  const text = typeof name === "string" ? name : textOf(name);
  return text.replace(control, escaped);
}

function textOf(bytes: Buffer): string {
  const text = bytes.toString();
  return Buffer.from(text).equals(bytes) ? text : bytes.toString("latin1").replace(/[\x80-\xff]/g, escaped);
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}

/** A digest in a table: as much of it as is usually enough to be unique. */
const shownHexDigits = 12;

/** A key or name in a table: printable, and a digest at its end shortened. */
export function shortName(name: string): string {
  return printable(name).replace(/(sha256:[0-9a-f]{64})$/, (digest) =>
    digest.slice(0, "sha256:".length + shownHexDigits),
  );
}

/** `word` as a shell reads it back. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
