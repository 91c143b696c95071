import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Collector, readCollector } from "./collector.ts";
import { OtelVariables } from "./otel-variables.ts";

/** What the environment says of tracing. */
export interface Tracing {
  /** Where the spans of builds go, besides being kept; undefined for nowhere. */
  readonly collector: Collector | undefined;
  /** What the worker's own spans are to say of it. */
  readonly resourceAttributes: readonly (readonly [name: string, value: string])[];
  /** What is wrong, and passed over. */
  readonly warnings: readonly string[];
}

/**
 * Reads the variables of OpenTelemetry. With `OTEL_IGNORE_ERROR` what is wrong with them is no reason not to start, as in
 * BuildKit.
 *
 * @throws {InvalidArgumentError} naming the variable that is wrong.
 */
export async function readTracing(environment: NodeJS.ProcessEnv): Promise<Tracing> {
  const variables = new OtelVariables(environment);
  try {
    return {
      collector: await readCollector(environment),
      resourceAttributes: resourceAttributes(variables),
      warnings: [],
    };
  } catch (error) {
    // Go's strconv.ParseBool, whose errors upstream takes for no.
    const isPassedOver = /^(1|t|T|TRUE|true|True)$/.test(variables.first("OTEL_IGNORE_ERROR")?.value ?? "");
    if (!isPassedOver || !(error instanceof InvalidArgumentError)) {
      throw error;
    }
    const warning = `${error.message}; spans go to no collector, as OTEL_IGNORE_ERROR is set`;
    return { collector: undefined, resourceAttributes: [], warnings: [warning] };
  }
}

/** `OTEL_SERVICE_NAME`, and what `OTEL_RESOURCE_ATTRIBUTES` says besides. */
function resourceAttributes(variables: OtelVariables): [name: string, value: string][] {
  const service = variables.first("OTEL_SERVICE_NAME");
  return [
    ...OtelVariables.pairs(variables.first("OTEL_RESOURCE_ATTRIBUTES")),
    ...(service === undefined ? [] : [["service.name", service.value] as [string, string]]),
  ];
}
