import { InvalidArgumentError } from "@oci-worker/errdefs";

/** What a client says of an export, `NAME=value` each. Whoever reads one takes it out; the rest is the result's metadata. */
export class Attributes {
  readonly #left: Map<string, string>;

  constructor(attributes: Readonly<Record<string, string>>) {
    this.#left = new Map(Object.entries(attributes));
  }

  text(name: string): string | undefined {
    const value = this.#left.get(name);
    this.#left.delete(name);
    return value;
  }

  /** Go's words for yes and no. One without a value is a yes. */
  flag(name: string, missing: boolean): boolean {
    const value = this.text(name);
    if (value === undefined) {
      return missing;
    }
    if (/^(|1|t|T|TRUE|true|True)$/.test(value)) {
      return true;
    }
    if (/^(0|f|F|FALSE|false|False)$/.test(value)) {
      return false;
    }
    throw new InvalidArgumentError(
      `non-bool value specified for ${name}: ${JSON.stringify(value.slice(0, 100))}, want true or false`,
    );
  }

  /** A whole number. */
  integer(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined || value === "") {
      return undefined;
    }
    if (!/^[+-]?\d{1,15}$/.test(value)) {
      throw new InvalidArgumentError(
        `non-int value ${JSON.stringify(value.slice(0, 100))} specified for ${name}, want a whole number`,
      );
    }
    return Number(value);
  }

  /** All that nobody has read. */
  rest(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#left);
  }
}
