import { InvalidArgumentError } from "@oci-worker/errdefs";

/** A variable that is set, and what to. */
export interface Variable {
  readonly name: string;
  readonly value: string;
}

/**
 * The variables by which programs are told of OpenTelemetry (specification, "Environment Variable Specification"). Their
 * values may be credentials: none of them comes into a message but where a reader says so.
 */
export class OtelVariables {
  readonly #environment: NodeJS.ProcessEnv;

  constructor(environment: NodeJS.ProcessEnv) {
    this.#environment = environment;
  }

  /** The first one of these that is set; one that is empty counts as not. */
  first(...names: readonly string[]): Variable | undefined {
    for (const name of names) {
      const value = this.#environment[name]?.trim() ?? "";
      if (value !== "") {
        return { name, value };
      }
    }
    return undefined;
  }

  /** That of traces, or else that of all signals: `OTEL_EXPORTER_OTLP_TRACES_x` and `OTEL_EXPORTER_OTLP_x`. */
  exporter(option: string): Variable | undefined {
    return this.first(`OTEL_EXPORTER_OTLP_TRACES_${option}`, `OTEL_EXPORTER_OTLP_${option}`);
  }

  /** @throws {InvalidArgumentError} if it is neither true nor false, in whatever letters. */
  static truth(variable: Variable | undefined): boolean {
    const value = variable?.value.toLowerCase() ?? "false";
    if (variable !== undefined && value !== "true" && value !== "false") {
      throw wrongVariable(variable, "true or false");
    }
    return value === "true";
  }

  /** @throws {InvalidArgumentError} if it is no whole number from `least` on. */
  static number(variable: Variable | undefined, fallback: number, least: number): number {
    if (variable === undefined) {
      return fallback;
    }
    const number = Number(variable.value);
    if (!/^\d{1,9}$/.test(variable.value) || number < least) {
      throw wrongVariable(variable, `a whole number from ${least} to 999999999`);
    }
    return number;
  }

  /**
   * Reads `name=value,name=value`, values percent-encoded (W3C Baggage, which the specification refers to).
   *
   * @throws {InvalidArgumentError} naming the place of what is wrong, and not what is there.
   */
  static pairs(variable: Variable | undefined): [name: string, value: string][] {
    if (variable === undefined) {
      return [];
    }
    return variable.value.split(",").flatMap((entry, index): [string, string][] => {
      const [, name = "", value = ""] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(entry) ?? [];
      if (entry.trim() === "") {
        return [];
      }
      try {
        if (name !== "") {
          return [[decodeURIComponent(name), decodeURIComponent(value)]];
        }
      } catch {
        // A percent sign that begins no byte of UTF-8.
      }
      throw new InvalidArgumentError(
        `Cannot read $${variable.name}: entry ${index + 1} is not of the form, want NAME=VALUE,NAME=VALUE, values percent-encoded`,
      );
    });
  }
}

/** What is wrong with a variable whose value is no secret. */
export function wrongVariable({ name, value }: Variable, want: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `Cannot read $${name}: it is ${JSON.stringify(value.slice(0, 200))}, want ${want}`,
  );
}
