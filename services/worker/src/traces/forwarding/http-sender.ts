import { request as httpRequest, type IncomingMessage, Agent as PlainAgent } from "node:http";
import { request as httpsRequest, Agent as TlsAgent } from "node:https";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type ExportTraceServiceRequest,
  ExportTraceServiceRequestSchema,
  ExportTraceServiceResponseSchema,
} from "@oci-worker/api/opentelemetry/trace-service";
import type { Collector } from "./collector.ts";
import { type SendOutcome, type SpanSender, withoutHeaders } from "./span-sender.ts";

/** After which a request may be made again (OTLP specification, "Retryable Response Codes"). */
const passing: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** Of an answer; more says nothing more. */
const maxAnswerBytes = 64 * 1024;

interface Answer {
  readonly status: number;
  /** Of the header Retry-After, if that has seconds; 0 otherwise. */
  readonly retryAfterMs: number;
  readonly body: Buffer;
}

/** Sends spans by HTTP, in protobuf. It follows no redirect: whoever is meant is named by the operator. */
export class HttpSender implements SpanSender {
  readonly #collector: Collector;
  readonly #agent: PlainAgent | TlsAgent;

  constructor(collector: Collector) {
    this.#collector = collector;
    this.#agent = collector.place.isTls
      ? new TlsAgent({ ...collector.tls, keepAlive: true, maxSockets: 1 })
      : new PlainAgent({ keepAlive: true, maxSockets: 1 });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  async send(request: ExportTraceServiceRequest, signal: AbortSignal): Promise<SendOutcome> {
    const { headers, timeoutMs, isCompressed } = this.#collector;
    const plain = toBinary(ExportTraceServiceRequestSchema, request);
    try {
      const body = isCompressed ? await promisify(gzip)(plain) : plain;
      const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
      return outcomeOf(await this.#post(body, limit), headers);
    } catch (error) {
      const why = withoutHeaders(error instanceof Error ? messageOf(error) : String(error), headers);
      return { kind: "unreachable", why, retryAfterMs: 0 };
    }
  }

  #post(body: Uint8Array, signal: AbortSignal): Promise<Answer> {
    const { headers, isCompressed, place } = this.#collector;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const send = place.isTls ? httpsRequest : httpRequest;
    const outgoing = send({
      agent: this.#agent,
      host: place.host,
      port: place.port,
      path: place.path,
      method: "POST",
      signal,
      headers: {
        ...Object.fromEntries(headers),
        "content-type": "application/x-protobuf",
        "content-length": body.length,
        ...(isCompressed && { "content-encoding": "gzip" }),
      },
    });
    outgoing.on("error", reject);
    outgoing.on("response", (incoming) => read(incoming).then(resolve, reject));
    outgoing.end(body);
    return promise;
  }
}

async function read(incoming: IncomingMessage): Promise<Answer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of incoming) {
    bytes += piece.length;
    if (bytes > maxAnswerBytes) {
      incoming.destroy();
      break;
    }
    pieces.push(piece);
  }
  const seconds = /^\d{1,4}$/.exec(incoming.headers["retry-after"] ?? "")?.[0] ?? "0";
  return {
    status: incoming.statusCode ?? 0,
    retryAfterMs: Number(seconds) * 1000,
    body: Buffer.concat(pieces),
  };
}

function outcomeOf({ status, retryAfterMs, body }: Answer, headers: Collector["headers"]): SendOutcome {
  if (status >= 200 && status < 300) {
    const { rejectedSpans, errorMessage } = partialSuccessOf(body);
    return { kind: "taken", rejected: Number(rejectedSpans), why: withoutHeaders(errorMessage, headers) };
  }
  const why = `it answers ${status}`;
  return passing.has(status) ? { kind: "unreachable", why, retryAfterMs } : { kind: "refused", why };
}

/** Whoever answers 200 has taken it, in whatever words. */
function partialSuccessOf(body: Buffer): { readonly rejectedSpans: bigint; readonly errorMessage: string } {
  try {
    const { partialSuccess } = fromBinary(ExportTraceServiceResponseSchema, body);
    return partialSuccess ?? { rejectedSpans: 0n, errorMessage: "" };
  } catch {
    return { rejectedSpans: 0n, errorMessage: "" };
  }
}

/** Of a name with several addresses each has an error, and all of them together none. */
function messageOf(error: Error): string {
  return error instanceof AggregateError ? error.errors.map(String).join("; ") : error.message;
}
