/** A word of a filter. */
export interface Token {
  readonly kind: "end" | "field" | "illegal" | "operator" | "quoted" | "separator" | "value";
  /** Index of its first character. */
  readonly start: number;
  /** As written, quotes included; of an illegal token, what is wrong with it. */
  readonly text: string;
}

/** What Go's unicode.IsSpace holds; `\s` is another set. */
const space = /[\t\n\v\f\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/u;
const spaces = new RegExp(`${space.source}*`, "uy");
const fieldChars = /[A-Za-z0-9_]+/uy;
const operatorChars = /[=!~]+/uy;
/** What Go's unicode.IsGraphic holds, without spaces and the comma that ends a value. */
const valueChars = /(?:(?!,)[\p{L}\p{M}\p{N}\p{P}\p{S}])+/uy;
const escapeSequence = /\\(?:[abfnrtv\\]|[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})/uy;

const quotes = new Set(['"', "/", "|"]);

/**
 * Cuts a filter into words. What a word is depends on the one before: after an operator everything up to a comma or
 * a space is a value, before it only letters, digits and underscores are a field.
 */
export class FilterScanner {
  readonly #text: string;
  #position = 0;
  #valueFollows = false;

  constructor(text: string) {
    this.#text = text;
  }

  get atEnd(): boolean {
    return this.#position === this.#text.length;
  }

  /** Index of the next character. */
  get position(): number {
    return this.#position;
  }

  /** The next character, spaces included, without taking it. */
  get next(): string | undefined {
    return this.#text[this.#position];
  }

  /** Takes the next word. Spaces before it are skipped, those after it are not. */
  scan(): Token {
    this.#match(spaces);
    const start = this.#position;
    const first = this.next;
    if (first === undefined) {
      return { kind: "end", start, text: "" };
    }
    if (quotes.has(first)) {
      return this.#quoted(start, first);
    }
    if (first === "," || first === ".") {
      this.#position += 1;
      this.#valueFollows = false;
      return { kind: "separator", start, text: first };
    }
    const operator = this.#match(operatorChars);
    if (operator !== undefined) {
      this.#valueFollows = true;
      return { kind: "operator", start, text: operator };
    }
    const word = this.#match(this.#valueFollows ? valueChars : fieldChars);
    if (word !== undefined) {
      const kind = this.#valueFollows ? "value" : "field";
      this.#valueFollows = false;
      return { kind, start, text: word };
    }
    return { kind: "illegal", start, text: "no such character is allowed here" };
  }

  #quoted(start: number, quote: string): Token {
    this.#position += 1;
    for (;;) {
      const char = this.next;
      if (char === undefined || char === "\n") {
        return { kind: "illegal", start, text: "the quotation is not closed" };
      }
      if (char === quote) {
        this.#position += 1;
        return { kind: "quoted", start, text: this.#text.slice(start, this.#position) };
      }
      if (char !== "\\") {
        this.#position += 1;
      } else if (this.#text[this.#position + 1] === quote) {
        this.#position += 2;
      } else if (this.#match(escapeSequence) === undefined) {
        return { kind: "illegal", start: this.#position, text: "there is no such escape sequence in Go" };
      }
    }
  }

  /** Takes what `pattern`, a sticky one, matches here, or nothing. */
  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#position;
    const [text] = pattern.exec(this.#text) ?? [];
    if (text === undefined || text === "") {
      return undefined;
    }
    this.#position += text.length;
    return text;
  }
}
