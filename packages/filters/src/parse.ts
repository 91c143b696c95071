import { InvalidArgumentError } from "@oci-worker/errdefs";
import { FilterScanner, type Token } from "./scan.ts";
import { unquote } from "./unquote.ts";

/** One condition on one field. */
export interface Selector {
  /** The names between the dots of the field path; at least one. */
  readonly path: readonly string[];
  readonly condition: Condition;
}

export type Condition =
  | { readonly operator: "present" }
  | { readonly operator: "==" | "!=" | "~="; readonly value: string };

/**
 * Reads one filter that is not empty.
 *
 * ```text
 * selectors := selector ("," selector)*
 * selector  := fieldpath [operator value]
 * fieldpath := field ("." field)*
 * field     := quoted | [A-Za-z0-9_]+
 * operator  := "==" | "!=" | "~="
 * value     := quoted | graphic characters without comma and space
 * quoted    := a Go string in double quotes; after "~=" also in slashes or bars
 * ```
 *
 * @throws {InvalidArgumentError} that shows the place as `[before >|here|< after]`.
 */
export function parseFilter(filter: string): Selector[] {
  return new FilterParser(filter).selectors();
}

class FilterParser {
  readonly #filter: string;
  readonly #scanner: FilterScanner;

  constructor(filter: string) {
    this.#filter = filter;
    this.#scanner = new FilterScanner(filter);
  }

  selectors(): Selector[] {
    const selectors = [this.#selector()];
    while (!this.#scanner.atEnd) {
      if (this.#scanner.next !== ",") {
        const { position } = this.#scanner;
        throw this.#unexpected({ kind: "illegal", start: position, text: "want a comma or the end" });
      }
      this.#scanner.scan();
      selectors.push(this.#selector());
    }
    return selectors;
  }

  #selector(): Selector {
    const path = [this.#field()];
    while (this.#scanner.next === ".") {
      this.#scanner.scan();
      path.push(this.#field());
    }
    if (this.#scanner.atEnd || this.#scanner.next === ",") {
      return { path, condition: { operator: "present" } };
    }
    return { path, condition: this.#comparison() };
  }

  #field(): string {
    const token = this.#scanner.scan();
    switch (token.kind) {
      case "field":
        return token.text;
      case "quoted":
        return this.#unquote(token, false);
      default:
        throw this.#unexpected(token, "want the name of a field");
    }
  }

  #comparison(): Condition {
    const token = this.#scanner.scan();
    const operator = token.text;
    if (token.kind !== "operator" || (operator !== "==" && operator !== "!=" && operator !== "~=")) {
      throw this.#unexpected(token, 'want one of "==", "!=", "~="');
    }
    return { operator, value: this.#value(operator === "~=") };
  }

  #value(isRegexp: boolean): string {
    const token = this.#scanner.scan();
    switch (token.kind) {
      case "value":
        return token.text;
      case "quoted":
        return this.#unquote(token, isRegexp);
      default:
        throw this.#unexpected(token, "want a value");
    }
  }

  #unquote(token: Token, anyQuote: boolean): string {
    if (!anyQuote && !token.text.startsWith('"')) {
      throw this.#unexpected(token, "want double quotes here");
    }
    const text = unquote(token.text);
    if (text === undefined) {
      throw this.#unexpected(token, "it is no valid Go string");
    }
    return text;
  }

  #unexpected({ kind, start, text }: Token, wanted = ""): InvalidArgumentError {
    const why = kind === "illegal" ? text : wanted;
    const filter = this.#filter;
    const place =
      start < filter.length
        ? `[${shorten(filter.slice(0, start), "start")} >|${filter[start]}|< ${shorten(filter.slice(start + 1), "end")}]`
        : `[${shorten(filter, "start")}]`;
    return new InvalidArgumentError(`Cannot read filter at character ${start + 1}: ${place}: ${why}`);
  }
}

const shownChars = 200;

/** What is far from the place of an error helps nobody to find it. */
function shorten(text: string, cut: "start" | "end"): string {
  if (text.length <= shownChars) {
    return text;
  }
  return cut === "start" ? `…${text.slice(-shownChars)}` : `${text.slice(0, shownChars)}…`;
}
