import { ServiceError, UnavailableError } from "@oci-worker/errdefs";
import type { Authorization, AuthorizationQuery, Authorizer } from "./authorizer.ts";
import type { HostGates, Load } from "./gate.ts";
import type { RegistryHost } from "./host.ts";
import type { HttpClient } from "./http/client.ts";
import type { Headers, HttpRequest, RequestBody } from "./http/request.ts";
import type { HttpResponse } from "./http/response.ts";
import { statusError } from "./status.ts";

/**
 * How often a request is repeated with another authorization. An authorizer comes to an end by itself; this is for one
 * that does not. It has as many as there are clients with a wrong password before the one with the right one.
 */
const maxRefusals = 40;

export interface EndpointRequest {
  readonly method: HttpRequest["method"];
  readonly url: URL;
  /** Such as "fetch blob sha256:… of library/alpine". */
  readonly purpose: string;
  readonly load: Load;
  readonly headers?: Headers;
  readonly body?: RequestBody;
  /** Scopes needed beside the repository's own. */
  readonly extraScopes?: readonly string[];
}

export interface EndpointOptions {
  readonly client: HttpClient;
  readonly host: RegistryHost;
  /** Path of the repository, such as `library/alpine`. */
  readonly repository: string;
  readonly authorizer: Authorizer | undefined;
  /** Those of the host, which all its repositories share. */
  readonly gates: HostGates;
  readonly onOutcome?: OutcomeObserver | undefined;
}

/** Told how a host did with a request: `failure` says why it was of no use; undefined if it was. */
export type OutcomeObserver = (host: RegistryHost, failure: string | undefined) => void;

/** One repository at one host: where its things are, and requests for them with the authorization they need. */
export class Endpoint {
  readonly host: RegistryHost;
  readonly #options: EndpointOptions;
  readonly #origin: URL;
  /** By the extra scopes that they are for. */
  readonly #authorizations = new Map<string, Authorization>();

  constructor(options: EndpointOptions) {
    this.host = options.host;
    this.#options = options;
    // In the spelling of URLs: lower case, and without the port that goes without saying.
    this.#origin = new URL(`${this.host.scheme}://${this.host.host}`);
  }

  /** URL of something in the repository, such as "blobs/sha256:…". */
  url(path: string, query: Readonly<Record<string, string>> = {}): URL {
    const { path: prefix, upstreamNamespace } = this.host;
    const url = new URL(`${prefix}/${this.#options.repository}/${path}`, this.#origin);
    if (upstreamNamespace !== undefined) {
      url.searchParams.set("ns", upstreamNamespace);
    }
    for (const [name, value] of Object.entries(query)) {
      url.searchParams.set(name, value);
    }
    return url;
  }

  /**
   * Sends a request when the host has a place for it, and again for as long as there is another authorization to try.
   *
   * @returns the answer, whatever its status. It keeps the place until it is disposed of, so nobody may wait for
   * another answer meanwhile.
   * @throws UnauthenticatedError if no authorization is accepted.
   */
  async send(request: EndpointRequest, signal: AbortSignal | undefined): Promise<HttpResponse> {
    using place = new DisposableStack();
    place.use(await this.#options.gates.enter(request.load, signal));
    const response = await this.#observed(request, signal);
    response.hold(place.move());
    return response;
  }

  async #observed(request: EndpointRequest, signal: AbortSignal | undefined): Promise<HttpResponse> {
    const { onOutcome } = this.#options;
    try {
      const response = await this.#sendAuthorized(request, signal);
      onOutcome?.(this.host, response.status < 400 ? undefined : `HTTP ${response.status}`);
      return response;
    } catch (error) {
      if (error instanceof ServiceError) {
        onOutcome?.(this.host, error.message);
      }
      throw error;
    }
  }

  async #sendAuthorized(request: EndpointRequest, signal: AbortSignal | undefined): Promise<HttpResponse> {
    if (!this.#isOurs(request.url)) {
      return await this.#sendElsewhere(request, signal);
    }
    const { extraScopes = [] } = request;
    const query = { host: this.host.host, ...(extraScopes.length > 0 && { extraScopes }) };
    let authorization = await this.#present(query, signal);
    for (let refusals = 0; ; refusals += 1) {
      const response = await this.#sendWith(authorization, request, signal);
      if (response.status !== 401 || !this.#isOurs(response.url)) {
        return response;
      }
      const refusal = await statusError(response);
      const challenges = response.headerValues("www-authenticate");
      response[Symbol.dispose]();
      const refused = authorization;
      if (refusals < maxRefusals) {
        authorization = await this.#ask({ ...query, challenges, ...(refused && { refused }) }, signal);
      }
      if (authorization === undefined || authorization === refused) {
        throw refusal;
      }
    }
  }

  /** Asks the authorizer, and remembers its answer for the next request. */
  async #ask(query: AuthorizationQuery, signal: AbortSignal | undefined): Promise<string | undefined> {
    const authorization = (await this.#options.authorizer?.authorize(query, signal)) ?? {};
    this.#authorizations.set(keyOf(query), authorization);
    return authorization.value;
  }

  /** What may be sent before the host asks for it. */
  async #present(
    query: Omit<AuthorizationQuery, "challenges">,
    signal: AbortSignal | undefined,
  ): Promise<string | undefined> {
    const known = this.#authorizations.get(keyOf(query));
    if (known !== undefined && (known.expiresAtMs ?? Number.POSITIVE_INFINITY) > Date.now()) {
      return known.value;
    }
    try {
      return await this.#ask({ ...query, challenges: [] }, signal);
    } catch (error) {
      // It is asked again before the old value expires, so that may do; if it does not, the host will say so.
      if (error instanceof UnavailableError && known?.value !== undefined) {
        return known.value;
      }
      throw error;
    }
  }

  #sendWith(
    authorization: string | undefined,
    request: EndpointRequest,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse> {
    const { headers, tls } = this.host;
    const originHeaders = { ...headers, ...(authorization && { authorization }) };
    return this.#options.client.send({ ...request, originHeaders, ...(tls && { tls }) }, signal);
  }

  /** An upload goes on where the host says. If that is another one, nothing of ours is for it. */
  #sendElsewhere(request: EndpointRequest, signal: AbortSignal | undefined): Promise<HttpResponse> {
    const { keyPairs: _keyPairs, ...tls } = this.host.tls ?? {};
    return this.#options.client.send({ ...request, tls }, signal);
  }

  #isOurs({ protocol, host }: URL): boolean {
    return protocol === `${this.host.scheme}:` && host === this.#origin.host;
  }
}

function keyOf({ extraScopes = [] }: Pick<AuthorizationQuery, "extraScopes">): string {
  return extraScopes.join(" ");
}
