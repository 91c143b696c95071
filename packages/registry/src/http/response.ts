import type { ClientRequest, IncomingMessage } from "node:http";
import { ResourceExhaustedError } from "@oci-worker/errdefs";
import { exchangeError, TimeLimitError } from "./errors.ts";

/** A rest of a body up to this size is read and thrown away, so that its connection can be used again. */
const maxDrainBytes = 64 * 1024;

export interface ResponseOptions {
  readonly message: IncomingMessage;
  /** Such as "Cannot fetch blob sha256:… from registry.example". */
  readonly attempt: string;
  /** Who answered, after all redirects. */
  readonly url: URL;
  /** How long the body may give no byte while somebody waits for one. */
  readonly idleTimeoutMs: number;
  readonly signal: AbortSignal | undefined;
  /** What is answered. It may still be being sent. */
  readonly request: ClientRequest;
}

/** The answer to a request. Whoever gets one disposes of it, and may read its body once. */
export class HttpResponse implements Disposable {
  readonly status: number;
  readonly url: URL;
  /** Such as "Cannot fetch blob sha256:… from registry.example", for errors about this answer. */
  readonly attempt: string;
  readonly #message: IncomingMessage;
  readonly #options: ResponseOptions;
  #held: Disposable | undefined;

  constructor(options: ResponseOptions) {
    const { message } = options;
    this.status = message.statusCode ?? 0;
    this.url = options.url;
    this.attempt = options.attempt;
    this.#message = message;
    this.#options = options;
    // Told to whoever reads the body; nobody may be reading it.
    message.on("error", () => undefined);
  }

  header(name: string): string | undefined {
    return this.#message.headersDistinct[name]?.[0];
  }

  /** The value of each of the headers of that name, which are kept apart. */
  headerValues(name: string): readonly string[] {
    return this.#message.headersDistinct[name] ?? [];
  }

  /** Content-Length, if the answer has a valid one. */
  get contentLength(): number | undefined {
    const text = this.header("content-length");
    return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  }

  /**
   * The body as it comes.
   *
   * @throws TransientError if the connection breaks or stalls.
   */
  async *chunks(): AsyncGenerator<Buffer, void, undefined> {
    const { signal, attempt, idleTimeoutMs } = this.#options;
    const iterator: AsyncIterator<Buffer> = this.#message[Symbol.asyncIterator]();
    const stall = () => {
      this.#message.destroy(new TimeLimitError(`the answer stalled, no byte came for ${idleTimeoutMs} ms`));
    };
    try {
      for (;;) {
        // The time that our reader takes does not count.
        const timer = setTimeout(stall, idleTimeoutMs);
        const { done, value } = await iterator.next().finally(() => clearTimeout(timer));
        if (done === true) {
          return;
        }
        yield value;
      }
    } catch (cause) {
      signal?.throwIfAborted();
      throw exchangeError(attempt, cause);
    } finally {
      // Not awaited: it ends with the stream, which this destroys.
      iterator.return?.().catch(() => undefined);
    }
  }

  /**
   * The whole body.
   *
   * @throws {ResourceExhaustedError} if it is longer than `maxBytes`.
   */
  async bytes(maxBytes: number): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of this.chunks()) {
      size += chunk.length;
      if (size > maxBytes) {
        throw new ResourceExhaustedError(`${this.attempt}: the answer is longer than ${maxBytes} bytes`);
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks, size);
  }

  /** Disposes of `held` together with the answer. */
  hold(held: Disposable): void {
    this.#held = held;
  }

  /** Lets go of the connection: for the next request if the rest of the body is short, else for good. */
  [Symbol.dispose](): void {
    const { request } = this.#options;
    const isShort = request.method === "HEAD" || (this.contentLength ?? maxDrainBytes) < maxDrainBytes;
    if (request.writableFinished && isShort) {
      this.#message.resume();
    } else {
      request.destroy();
    }
    this.#held?.[Symbol.dispose]();
  }
}
