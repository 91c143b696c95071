/** A set of characters, as the question whether a code point is one of them. */
export type CharSet = (codePoint: number) => boolean;

const newline = 0x0a;

export const anyChar: CharSet = () => true;
export const anyCharButNewline: CharSet = (char) => char !== newline;

export function only(wanted: number): CharSet {
  return (char) => char === wanted;
}

export function between(first: number, last: number): CharSet {
  return (char) => char >= first && char <= last;
}

export function anyOf(sets: readonly CharSet[]): CharSet {
  return (char) => sets.some((set) => set(char));
}

export function not(set: CharSet): CharSet {
  return (char) => !set(char);
}

/** `set` and whatever differs from one of its characters in case alone. */
export function foldCase(set: CharSet): CharSet {
  return remembered((char) => {
    if (set(char)) {
      return true;
    }
    const text = String.fromCodePoint(char);
    return isOtherCase(text.toLowerCase(), set) || isOtherCase(text.toUpperCase(), set);
  });
}

const maxRemembered = 4096;

/** `set` with its answers kept: a class of a thousand ranges then costs no more than a single character. */
export function remembered(set: CharSet): CharSet {
  const answers = new Map<number, boolean>();
  return (char) => {
    const known = answers.get(char);
    if (known !== undefined) {
      return known;
    }
    const answer = set(char);
    if (answers.size === maxRemembered) {
      answers.clear();
    }
    answers.set(char, answer);
    return answer;
  };
}

/** The other case of some characters is two characters, which no set of characters holds. */
function isOtherCase(text: string, set: CharSet): boolean {
  const char = text.codePointAt(0) ?? 0;
  return text.length === String.fromCodePoint(char).length && set(char);
}

const digit = between(0x30, 0x39);
const upper = between(0x41, 0x5a);
const lower = between(0x61, 0x7a);
const alpha = anyOf([upper, lower]);
const alnum = anyOf([digit, alpha]);
const blank = oneOf("\t ");

/** The characters of `\w`, which `\b` goes by: ASCII alone, as in RE2. */
export const wordChar: CharSet = anyOf([alnum, only(0x5f)]);

/** `\d` and its kin (RE2 syntax, "Perl character classes"). */
export const perlClasses: Readonly<Record<string, CharSet>> = {
  "\\d": digit,
  "\\D": not(digit),
  "\\s": oneOf("\t\n\f\r "),
  "\\S": not(oneOf("\t\n\f\r ")),
  "\\w": wordChar,
  "\\W": not(wordChar),
};

/** What stands between `[:` and `:]` in a class (RE2 syntax, "ASCII character classes"). */
export const asciiClasses: Readonly<Record<string, CharSet>> = {
  alnum,
  alpha,
  ascii: between(0, 0x7f),
  blank,
  cntrl: anyOf([between(0, 0x1f), only(0x7f)]),
  digit,
  graph: between(0x21, 0x7e),
  lower,
  print: between(0x20, 0x7e),
  punct: anyOf([between(0x21, 0x2f), between(0x3a, 0x40), between(0x5b, 0x60), between(0x7b, 0x7e)]),
  space: anyOf([between(0x09, 0x0d), only(0x20)]),
  upper,
  word: wordChar,
  xdigit: anyOf([digit, between(0x41, 0x46), between(0x61, 0x66)]),
};

function oneOf(chars: string): CharSet {
  return anyOf([...chars].map((char) => only(char.codePointAt(0) ?? 0)));
}
