import { InvalidArgumentError } from "@oci-worker/errdefs";
import { OtelVariables, type Variable } from "./otel-variables.ts";

/** Where a collector listens. */
export interface Place {
  /** For people, without what may be a credential. */
  readonly text: string;
  /** Path of a unix socket; undefined in the network. */
  readonly socketPath: string | undefined;
  /** A name or an address, an IPv6 one without brackets. */
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
  /** Of the HTTP request, with its query. */
  readonly path: string;
}

export interface Endpoint {
  readonly place: Place;
  /** What the address says of who is asking. */
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** Ports of the protocol (OTLP specification). */
const ports = { grpc: 4317, "http/protobuf": 4318 };

/** Added to an endpoint that is for all signals. */
const tracesPath = "/v1/traces";

/**
 * Reads the address of the collector: a URL, or for gRPC `unix:///PATH`, which steps of builds are given, and `HOST:PORT`,
 * which is TLS unless `OTEL_EXPORTER_OTLP_INSECURE` says otherwise.
 *
 * @throws {InvalidArgumentError} naming the variable; its value may hold a password.
 */
export function readEndpoint(variables: OtelVariables, protocol: keyof typeof ports): Endpoint {
  const variable = variables.exporter("ENDPOINT") ?? {
    name: "OTEL_EXPORTER_OTLP_ENDPOINT",
    value: `http://localhost:${ports[protocol]}`,
  };
  const socketPath = /^unix:(?:\/\/)?(\/.*)$/.exec(variable.value)?.[1];
  if (protocol === "grpc" && socketPath !== undefined) {
    const text = `unix://${socketPath}`;
    return {
      place: { text, socketPath, host: "localhost", port: 0, isTls: false, path: "/" },
      headers: [],
    };
  }
  const isPlain = OtelVariables.truth(variables.exporter("INSECURE"));
  const url = parse(variable, protocol, isPlain);
  const path = protocol === "grpc" ? "" : requestPath(url, variable.name);
  const isTls = url.protocol === "https:";
  const port = Number(url.port) || (protocol === "grpc" ? ports.grpc : isTls ? 443 : 80);
  return {
    place: {
      text: `${url.protocol}//${url.hostname}:${port}${url.pathname === "/" ? "" : url.pathname}`,
      socketPath: undefined,
      host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
      port,
      isTls,
      path,
    },
    headers: basicAuthorization(url, variable.name),
  };
}

function parse({ name, value }: Variable, protocol: keyof typeof ports, isPlain: boolean): URL {
  const isBare = protocol === "grpc" && !value.includes("://");
  const url = URL.parse(isBare ? `${isPlain ? "http" : "https"}://${value}` : value);
  if (url === null || !["http:", "https:"].includes(url.protocol) || url.hostname === "") {
    const forms =
      protocol === "grpc" ? ", https://HOST:PORT, HOST:PORT or unix:///PATH" : " or https://HOST:PORT";
    throw new InvalidArgumentError(
      `Cannot read $${name}: it is no such address, want http://HOST:PORT${forms}`,
    );
  }
  return url;
}

/** An endpoint for traces alone is used as it is, that for all signals has the path of theirs added. */
function requestPath({ pathname, search }: URL, name: string): string {
  return name === "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    ? pathname + search
    : pathname.replace(/\/$/, "") + tracesPath + search;
}

/** @throws {InvalidArgumentError} naming the variable `name` alone. */
function basicAuthorization({ username, password }: URL, name: string): [string, string][] {
  if (username === "" && password === "") {
    return [];
  }
  let credentials: string;
  try {
    credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  } catch {
    throw new InvalidArgumentError(
      `Cannot read $${name}: its user or password is not percent-encoded UTF-8, want %25 for a percent sign`,
    );
  }
  return [["authorization", `Basic ${Buffer.from(credentials).toString("base64")}`]];
}
