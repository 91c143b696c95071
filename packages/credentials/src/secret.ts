import { inspect } from "node:util";

/**
 * A password or token. Prints as `[secret]` wherever a value is turned into text: template strings, JSON, the
 * inspector, pino. Only {@link reveal} gives it away, so a reviewer can grep for that.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}
