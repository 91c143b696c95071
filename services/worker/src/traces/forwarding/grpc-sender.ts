import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { type ExportTraceServiceRequest, TraceService } from "@oci-worker/api/opentelemetry/trace-service";
import { type Channel, tcpChannel, unixChannel } from "@oci-worker/grpc/channel";
import type { Collector } from "./collector.ts";
import { type SendOutcome, type SpanSender, withoutHeaders } from "./span-sender.ts";

/** After which a call may be made again (OTLP specification, "Failures"). */
const passing: ReadonlySet<Code> = new Set([
  Code.Aborted,
  Code.Canceled,
  Code.DataLoss,
  Code.DeadlineExceeded,
  Code.OutOfRange,
  Code.ResourceExhausted,
  Code.Unavailable,
]);

/** Sends spans by gRPC. */
export class GrpcSender implements SpanSender {
  readonly #collector: Collector;
  #channel: Channel;

  constructor(collector: Collector) {
    this.#collector = collector;
    this.#channel = channelTo(collector);
  }

  [Symbol.dispose](): void {
    this.#channel[Symbol.dispose]();
  }

  async send(request: ExportTraceServiceRequest, signal: AbortSignal): Promise<SendOutcome> {
    const { headers, timeoutMs } = this.#collector;
    const client = createClient(TraceService, this.#channel);
    try {
      const { partialSuccess } = await client.export(request, {
        headers: headers.map(([name, value]): [string, string] => [name, value]),
        timeoutMs,
        signal,
      });
      const { rejectedSpans = 0n, errorMessage = "" } = partialSuccess ?? {};
      return { kind: "taken", rejected: Number(rejectedSpans), why: withoutHeaders(errorMessage, headers) };
    } catch (thrown) {
      const { code, message } = ConnectError.from(thrown);
      const why = withoutHeaders(message, headers);
      if (code === Code.DeadlineExceeded) {
        // Who does not answer may have gone without a word, and the connection with it.
        this.#channel[Symbol.dispose]();
        this.#channel = channelTo(this.#collector);
      }
      return passing.has(code) ? { kind: "unreachable", why, retryAfterMs: 0 } : { kind: "refused", why };
    }
  }
}

function channelTo({ place, tls }: Collector): Channel {
  return place.socketPath === undefined
    ? tcpChannel({ host: place.host, port: place.port, tls: place.isTls ? tls : undefined })
    : unixChannel(place.socketPath);
}
