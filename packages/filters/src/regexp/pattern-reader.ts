/** A regular expression that we cannot use, whether it is wrong or too large. */
export class RegexpError extends Error {}

/** Reads a pattern from its beginning, a piece at a time. */
export class PatternReader {
  readonly #source: string;
  #position = 0;

  constructor(source: string) {
    this.#source = source;
  }

  get atEnd(): boolean {
    return this.#position === this.#source.length;
  }

  get next(): string | undefined {
    return this.#source[this.#position];
  }

  sees(text: string): boolean {
    return this.#source.startsWith(text, this.#position);
  }

  /** Takes `text` if it comes next. */
  take(text: string): boolean {
    const seen = this.sees(text);
    if (seen) {
      this.#position += text.length;
    }
    return seen;
  }

  /** Takes whichever of the keys comes next and returns what stands for it. */
  takeOneOf<T>(meanings: Readonly<Record<string, T>>): T | undefined {
    for (const [text, meaning] of Object.entries(meanings)) {
      if (this.take(text)) {
        return meaning;
      }
    }
    return undefined;
  }

  /** Takes what `pattern`, a sticky one, matches here; undefined if it matches nothing here. */
  takeMatch(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#position;
    const [text] = pattern.exec(this.#source) ?? [];
    this.#position += text?.length ?? 0;
    return text;
  }

  /** Takes one character, which may be two code units. */
  takeChar(): string {
    const codePoint = this.#source.codePointAt(this.#position);
    if (codePoint === undefined) {
      throw this.error("it ends too early");
    }
    const char = String.fromCodePoint(codePoint);
    this.#position += char.length;
    return char;
  }

  /** Takes everything up to `end`, which is taken too but not returned, or up to the end of the pattern. */
  takeUntil(end: string): string {
    const found = this.#source.indexOf(end, this.#position);
    const text = this.#source.slice(this.#position, found === -1 ? undefined : found);
    this.#position += text.length + (found === -1 ? 0 : end.length);
    return text;
  }

  error(why: string): RegexpError {
    return new RegexpError(`Cannot use regular expression: ${why}, at character ${this.#position + 1}`);
  }
}
