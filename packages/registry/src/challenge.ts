/** One way to authenticate that a server offers (RFC 9110, 11.6.1). */
export interface Challenge {
  /** In lower case, such as `basic` or `bearer`. */
  readonly scheme: string;
  /** Names in lower case. A name that came twice has its first value. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** Longest header that is read, in characters: Node allows 16 KiB for all headers together. */
const maxHeaderLength = 16 * 1024;

const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const quoted = /"((?:[^"\\]|\\.)*)"/y;
const unquoted = /[^\s,"]+/y;
const space = /[ \t]*/y;
const equals = /[ \t]*=[ \t]*/y;
const separators = /[ \t,]*/y;
const token68 = /[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y;

/**
 * The challenges in the values of WWW-Authenticate headers, in their order.
 *
 * Several may share one header, which makes a comma end a parameter or a challenge; what follows it decides. What is
 * no challenge is passed over up to the next comma: a registry's slip in one challenge must not hide another.
 */
export function parseChallenges(headers: readonly string[]): Challenge[] {
  return headers.flatMap((header) => [...challengesIn(header.slice(0, maxHeaderLength))]);
}

function* challengesIn(header: string): Generator<Challenge> {
  const scanner = new Scanner(header);
  for (;;) {
    scanner.take(separators);
    if (scanner.atEnd) {
      return;
    }
    const scheme = scanner.take(token);
    if (scheme === undefined || scanner.peek(equals) !== undefined) {
      scanner.skipPastComma();
    } else {
      yield { scheme: scheme.toLowerCase(), parameters: parametersIn(scanner) };
    }
  }
}

/** Reads `name=value` pairs up to the next scheme. */
function parametersIn(scanner: Scanner): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  scanner.take(space);
  if (scanner.peekParameter() === undefined) {
    scanner.take(token68);
  }
  for (;;) {
    const start = scanner.position;
    scanner.take(separators);
    const name = scanner.peekParameter();
    if (name === undefined) {
      scanner.position = start;
      return parameters;
    }
    scanner.take(token);
    scanner.take(equals);
    const value = scanner.takeValue();
    if (!parameters.has(name)) {
      parameters.set(name, value);
    }
  }
}

/** A place in a header from which patterns are matched. */
class Scanner {
  position = 0;
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  get atEnd(): boolean {
    return this.position >= this.#text.length;
  }

  /** What `pattern`, a sticky one, matches here, without passing it. */
  peek(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.position;
    return pattern.exec(this.#text) ?? undefined;
  }

  take(pattern: RegExp): string | undefined {
    const match = this.peek(pattern);
    this.position += match?.[0].length ?? 0;
    return match?.[0];
  }

  /** The name of the parameter here, in lower case; undefined if here is none, so mostly a scheme. */
  peekParameter(): string | undefined {
    const start = this.position;
    const name = this.take(token);
    const isParameter = name !== undefined && this.peek(equals) !== undefined;
    this.position = start;
    return isParameter ? name.toLowerCase() : undefined;
  }

  /** The value of a parameter, without its quotes. One whose closing quote is missing is empty. */
  takeValue(): string {
    const inQuotes = this.peek(quoted);
    if (inQuotes !== undefined) {
      this.position += inQuotes[0].length;
      return (inQuotes[1] ?? "").replace(/\\(.)/g, "$1");
    }
    return this.take(unquoted) ?? "";
  }

  skipPastComma(): void {
    const comma = this.#text.indexOf(",", this.position);
    this.position = comma < 0 ? this.#text.length : comma + 1;
  }
}
