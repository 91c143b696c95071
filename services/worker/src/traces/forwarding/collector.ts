import { readFileSync } from "node:fs";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Place, readEndpoint } from "./endpoint.ts";
import { OtelVariables, type Variable, wrongVariable } from "./otel-variables.ts";

/** What connections by TLS are made with, PEM; undefined for what Node brings, and for no certificate of our own. */
export interface CollectorTls {
  readonly ca: Buffer | undefined;
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
}

/** How much is sent, and when (specification, "Batch Span Processor"). */
export interface BatchLimits {
  /** After so long, if there is not enough for a whole batch. */
  readonly delayMs: number;
  readonly batchSpans: number;
  /** So many wait at most. */
  readonly waitingSpans: number;
}

/** Where the spans of builds are sent, and how. */
export interface Collector {
  readonly protocol: "grpc" | "http/protobuf";
  readonly place: Place;
  /** They may be credentials: not for logs, nor for errors. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly tls: CollectorTls;
  /** Of a call. */
  readonly timeoutMs: number;
  readonly isCompressed: boolean;
  readonly limits: BatchLimits;
}

/** Those that the protocols set themselves (RFC 9110, RFC 9113), and that gRPC keeps for itself. */
const ownHeaders =
  /^(connection|content-encoding|content-length|content-type|host|keep-alive|te|transfer-encoding|upgrade|grpc-.*)$/;

/**
 * What the environment says of a collector, as BuildKit takes it (util/tracing/detect): there is one if it names its
 * endpoint or `OTEL_TRACES_EXPORTER` is `otlp`, and the protocol is grpc if it does not say.
 *
 * @returns undefined if there is none, or none is to be used.
 * @throws {InvalidArgumentError} naming the variable that is wrong.
 */
export async function readCollector(environment: NodeJS.ProcessEnv): Promise<Collector | undefined> {
  const variables = new OtelVariables(environment);
  const exporter = variables.first("OTEL_TRACES_EXPORTER");
  if (exporter !== undefined && !["otlp", "none"].includes(exporter.value)) {
    throw wrongVariable(exporter, "otlp or none");
  }
  if (OtelVariables.truth(variables.first("OTEL_SDK_DISABLED")) || exporter?.value === "none") {
    return undefined;
  }
  if (exporter === undefined && variables.exporter("ENDPOINT") === undefined) {
    return undefined;
  }
  const protocol = readProtocol(variables);
  const { place, headers } = readEndpoint(variables, protocol);
  return {
    protocol,
    place,
    headers: [...headers, ...readHeaders(variables)],
    tls: await readTls(variables),
    timeoutMs: OtelVariables.number(variables.exporter("TIMEOUT"), 10_000, 1),
    isCompressed: readCompression(variables, protocol),
    limits: readLimits(variables),
  };
}

function readProtocol(variables: OtelVariables): Collector["protocol"] {
  const variable = variables.exporter("PROTOCOL") ?? { name: "", value: "grpc" };
  const { value } = variable;
  if (value !== "grpc" && value !== "http/protobuf") {
    throw wrongVariable(variable, "grpc or http/protobuf");
  }
  return value;
}

function readHeaders(variables: OtelVariables): [string, string][] {
  const variable = variables.exporter("HEADERS");
  return OtelVariables.pairs(variable).map(([spelt, value], index) => {
    const name = spelt.toLowerCase();
    const isUsable = /^[\w!#$%&'*+.^`|~-]+$/.test(name) && /^[\x20-\x7e]*$/.test(value);
    if (!isUsable || ownHeaders.test(name)) {
      const want = isUsable ? "none that the protocol sets itself" : "a header's name and printable ASCII";
      throw new InvalidArgumentError(
        `Cannot read $${variable?.name}: entry ${index + 1} cannot be a header, want ${want}`,
      );
    }
    return [name, value];
  });
}

async function readTls(variables: OtelVariables): Promise<CollectorTls> {
  const read = (option: string) => {
    const variable = variables.exporter(option);
    return variable === undefined ? undefined : { variable, pem: readPem(variable) };
  };
  const [ca, cert, key] = [read("CERTIFICATE"), read("CLIENT_CERTIFICATE"), read("CLIENT_KEY")];
  const alone = cert ?? key;
  if (alone !== undefined && (cert === undefined || key === undefined)) {
    throw new InvalidArgumentError(
      `Cannot use $${alone.variable.name} alone, want both OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY`,
    );
  }
  const tls = { ca: ca?.pem, cert: cert?.pem, key: key?.pem };
  if (ca === undefined && cert === undefined) {
    return tls;
  }
  // It takes a while to load, and most have none.
  const { createSecureContext } = await import("node:tls");
  try {
    createSecureContext(tls);
  } catch (cause) {
    const names = [ca, cert, key].flatMap((each) => (each === undefined ? [] : [`$${each.variable.name}`]));
    throw new InvalidArgumentError(
      `Cannot use ${names.join(", ")}: ${cause instanceof Error ? cause.message : cause}, want PEM, the certificate with its key`,
      { cause },
    );
  }
  return tls;
}

function readPem({ name, value }: Variable): Buffer {
  try {
    const pem = readFileSync(value);
    if (!pem.includes("-----BEGIN ")) {
      throw new Error(`there is no PEM in ${JSON.stringify(value)}`);
    }
    return pem;
  } catch (cause) {
    throw new InvalidArgumentError(
      `Cannot use $${name}: ${cause instanceof Error ? cause.message : cause}, want a PEM file`,
      { cause },
    );
  }
}

/** By gRPC our calls are sent as they are. */
function readCompression(variables: OtelVariables, protocol: Collector["protocol"]): boolean {
  const variable = variables.exporter("COMPRESSION");
  const isCompressed = variable?.value === "gzip";
  if (variable !== undefined && variable.value !== "none" && (!isCompressed || protocol === "grpc")) {
    throw wrongVariable(variable, protocol === "grpc" ? "none with grpc" : "gzip or none");
  }
  return isCompressed;
}

function readLimits(variables: OtelVariables): BatchLimits {
  const number = (name: string, fallback: number, least: number) =>
    OtelVariables.number(variables.first(name), fallback, least);
  const waitingSpans = number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1);
  return {
    delayMs: number("OTEL_BSP_SCHEDULE_DELAY", 5000, 0),
    waitingSpans,
    batchSpans: Math.min(waitingSpans, number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1)),
  };
}
