import { UnavailableError } from "@oci-worker/errdefs";
import manifest from "../../package.json" with { type: "json" };
import type { TlsSettings } from "../host.ts";
import { Agents } from "./agents.ts";
import { exchangeError } from "./errors.ts";
import { type Answer, defaultTimeouts, exchange, StaleConnectionError, type Timeouts } from "./exchange.ts";
import { maxRedirects, redirectTarget } from "./redirect.ts";
import type { Headers, HttpRequest } from "./request.ts";
import { HttpResponse } from "./response.ts";

export interface HttpClientOptions {
  /** Where HTTP_PROXY, HTTPS_PROXY and NO_PROXY are looked up. */
  readonly environment?: NodeJS.ProcessEnv;
  readonly timeouts?: Partial<Timeouts>;
}

const userAgent = `oci-worker/${manifest.version}`;

/** How many kept connections in a row may turn out to be closed before we believe that it is the server. */
const maxStaleConnections = 10;

/** One hop of a request: what is sent to one URL. */
interface Hop {
  readonly url: URL;
  readonly headers: Headers;
  readonly tls: TlsSettings | undefined;
}

/**
 * Sends HTTP requests over connections that are kept alive and follows redirects, in both cases as a registry needs
 * it: with TLS settings for each host, and without taking credentials to another one.
 */
export class HttpClient implements Disposable {
  readonly #agents: Agents;
  readonly #timeouts: Timeouts;

  constructor({ environment = process.env, timeouts }: HttpClientOptions = {}) {
    this.#agents = new Agents(environment);
    this.#timeouts = { ...defaultTimeouts, ...timeouts };
  }

  /**
   * Sends `request` and follows redirects.
   *
   * @returns the answer, whatever its status. It is the caller's to dispose of.
   * @throws TransientError if the same may succeed later, UnavailableError if nobody answers there, and
   * FailedPreconditionError if TLS or a redirect of the host is not as it must be.
   */
  async send(request: HttpRequest, signal?: AbortSignal): Promise<HttpResponse> {
    let hop = firstHop(request);
    for (let redirects = 0; redirects <= maxRedirects; redirects += 1) {
      const response = await this.#exchange(request, hop, signal);
      const query = {
        method: request.method,
        status: response.status,
        location: response.header("location"),
      };
      const target = redirectTarget({ ...query, url: hop.url });
      if (target === undefined) {
        return response;
      }
      response[Symbol.dispose]();
      hop = nextHop(request, hop, target);
    }
    throw new UnavailableError(
      `${attemptOf(request, hop.url)}: it redirects more than ${maxRedirects} times`,
    );
  }

  /** Closes all connections, those in use too. */
  [Symbol.dispose](): void {
    this.#agents[Symbol.dispose]();
  }

  async #exchange(request: HttpRequest, hop: Hop, signal: AbortSignal | undefined): Promise<HttpResponse> {
    const attempt = attemptOf(request, hop.url);
    try {
      const answer = await this.#exchangeFresh(request, hop, signal);
      const idleTimeoutMs = this.#timeouts.bodyIdleMs;
      return new HttpResponse({ ...answer, attempt, url: hop.url, idleTimeoutMs, signal });
    } catch (cause) {
      signal?.throwIfAborted();
      throw exchangeError(attempt, cause);
    }
  }

  /** Sends it again at once when a kept connection was closed: that is no failure of the server. */
  async #exchangeFresh(request: HttpRequest, hop: Hop, signal: AbortSignal | undefined): Promise<Answer> {
    for (let stale = 0; ; stale += 1) {
      try {
        return await exchange({
          method: request.method,
          url: hop.url,
          headers: hop.headers,
          body: request.body,
          agent: await this.#agents.agentFor(hop.url, hop.tls),
          timeouts: this.#timeouts,
          signal,
        });
      } catch (error) {
        if (!(error instanceof StaleConnectionError) || stale === maxStaleConnections) {
          throw error;
        }
      }
    }
  }
}

function firstHop({ url, headers, originHeaders, tls }: HttpRequest): Hop {
  return { url, headers: { ...commonHeaders, ...headers, ...originHeaders }, tls };
}

/** A compressed answer would have other sizes and ranges than the content that it carries. */
const commonHeaders: Headers = { "user-agent": userAgent, "accept-encoding": "identity" };

function nextHop(request: HttpRequest, { headers, tls }: Hop, target: URL): Hop {
  if (target.origin === request.url.origin) {
    return { url: target, headers, tls };
  }
  if (request.sameOriginOnly === true) {
    throw new UnavailableError(
      `${attemptOf(request, request.url)}: it redirects to ${target.host}, and what we send is for it alone`,
    );
  }
  const { keyPairs: _keyPairs, ...trust } = request.tls ?? {};
  return { url: target, headers: { ...commonHeaders, ...request.headers }, tls: trust };
}

/** Tells what was tried and with whom; never the query, which may hold a signature. */
function attemptOf({ purpose, url }: HttpRequest, current: URL): string {
  const origin = `Cannot ${purpose} from ${url.host}`;
  return current.origin === url.origin ? origin : `${origin}, which redirects to ${current.host}`;
}
