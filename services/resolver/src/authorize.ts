import type { Secret } from "@oci-worker/credentials/secret";
import {
  PermissionDeniedError,
  ServiceError,
  UnauthenticatedError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { type BearerDemand, type Demand, demandOf } from "@oci-worker/registry/demand";
import { mergeScopes, repositoryScope } from "@oci-worker/registry/scopes";
import type { Logger } from "pino";
import { BoundedMap } from "./bounded-map.ts";
import type { Identity, Keychain, KeychainQuery, Obstacle, TokenRequest } from "./credentials/identity.ts";
import type { RegistryHosts } from "./hosts/hosts.ts";
import { type AuthorizationRequest, type Inquiry, understand } from "./inquiry.ts";
import type { Ledger, Tried } from "./ledger.ts";
import { Refusals } from "./refusals.ts";
import { bearerValue, sha256Of, type TokenCache } from "./token/token-cache.ts";

/** Targets of which is remembered how they were opened. */
const maxMemories = 4096;

/** Failures that an error tells. */
const maxToldFailures = 5;

/** What to send with the next request. */
export interface Grant {
  /** Value of the Authorization header. */
  readonly value: Secret;
  /** Name of the keychain that it comes from. */
  readonly keychain: string;
  /** Milliseconds since 1970 at which to ask again; undefined: when it is refused. */
  readonly renewAtMs?: number;
}

export interface AuthorizerParts {
  readonly hosts: RegistryHosts;
  /** In the order in which to try them. */
  readonly keychains: readonly Keychain[];
  readonly tokens: TokenCache;
  /** Told what came of each search. */
  readonly ledger: Ledger;
  readonly log: Logger;
}

/** What is to be found: something to meet `demand` with. */
interface Search extends Inquiry {
  readonly demand: Demand;
  /** What to ask a token server for, if there is one. */
  readonly tokenRequest: TokenRequest | undefined;
}

/** What an identity has to show. */
type Shown = Omit<Grant, "keychain">;

/** How a target was last opened. */
interface Memory {
  readonly demand: Demand;
  readonly keychain: string;
}

/** Why a keychain was of no use. */
interface Failure {
  readonly keychain: string;
  readonly error: ServiceError;
}

/**
 * Finds authorizations for requests to registries: which identity of which keychain, and what it has to show.
 *
 * An identity that a registry has refused is passed over for a while, so that a caller which comes back after every 401
 * gets through all of them, and to an end.
 */
export class Authorizer {
  readonly #parts: AuthorizerParts;
  readonly #memories = new BoundedMap<string, Memory>(maxMemories);
  readonly #refusals = new Refusals();

  constructor(parts: AuthorizerParts) {
    this.#parts = parts;
  }

  /**
   * What to send with the next request; undefined to send nothing yet.
   *
   * @throws {InvalidArgumentError} for a handle, host or challenge that makes no sense.
   * @throws {UnauthenticatedError} if every identity there is has been refused, or there is none.
   * @throws {UnavailableError} if one could not be asked.
   */
  async authorize(request: AuthorizationRequest, signal: AbortSignal): Promise<Grant | undefined> {
    const inquiry = await understand(this.#parts.hosts, request);
    if (request.challenges.length === 0) {
      const memory = this.#memories.get(inquiry.target);
      // With no identity the request goes without: what the registry says to that comes back to us.
      const grant = memory && (await this.#find(await this.#search(inquiry, memory.demand), [], signal));
      if (grant === undefined) {
        this.#parts.ledger.asked(wishOf(inquiry), inquiry.host);
      }
      return grant;
    }
    const search = await this.#search(inquiry, demandOf(request.challenges, inquiry.host));
    const failures: Failure[] = [];
    const grant = await this.#find(search, failures, signal);
    if (grant === undefined) {
      const { scheme } = search.demand;
      this.#parts.ledger.refused(wishOf(search), search.host, {
        challenge: scheme,
        tried: triedIn(failures),
      });
      this.#parts.log.info(
        { ...explained(search), tried: failures.map(({ keychain }) => keychain) },
        "no authorization found",
      );
      throw refusal(search, failures);
    }
    return grant;
  }

  async #search(inquiry: Inquiry, demand: Demand): Promise<Search> {
    const tokenRequest = demand.scheme === "bearer" ? await this.#tokenRequest(inquiry, demand) : undefined;
    return { ...inquiry, demand, tokenRequest };
  }

  async #tokenRequest({ grantee, host, extraScopes }: Inquiry, demand: BearerDemand): Promise<TokenRequest> {
    const { realm, service, scopes } = demand;
    const tls = await this.#parts.hosts.tokenServerTls(realm, host);
    const own = repositoryScope(grantee.reference.repository, grantee.access === "pull" ? "pull" : "push");
    return {
      host: host.host,
      realm,
      service,
      scopes: mergeScopes([own], scopes, extraScopes),
      ...(tls && { tls }),
    };
  }

  /** The first identity that has something to show; what became of the others goes to `failures`. */
  async #find(search: Search, failures: Failure[], signal: AbortSignal): Promise<Grant | undefined> {
    for (const keychain of this.#keychainsFor(search)) {
      for await (const found of candidates(keychain, queryOf(search), signal)) {
        const outcome = await this.#outcome(found, search, signal);
        if (outcome instanceof ServiceError) {
          failures.push({ keychain: keychain.name, error: outcome });
        } else if (outcome !== undefined) {
          const grant = { ...outcome, keychain: keychain.name };
          this.#remember(search, grant, failures);
          return grant;
        }
      }
    }
    return undefined;
  }

  /** What the operator has is shown to nobody of whom only a client says that he may be trusted. */
  #keychainsFor({ grantee }: Search): readonly Keychain[] {
    const { keychains } = this.#parts;
    return grantee.access === "insecure-push" ? keychains.filter(({ isClients }) => isClients) : keychains;
  }

  /** What an identity has to show, or why that is no good; undefined if it has nothing of the kind. */
  async #outcome(
    found: Identity | Obstacle,
    search: Search,
    signal: AbortSignal,
  ): Promise<Shown | ServiceError | undefined> {
    if ("obstacle" in found) {
      return found.obstacle;
    }
    const earlier = this.#refusals.get(found.key, search.target);
    if (earlier !== undefined) {
      return earlier;
    }
    try {
      return await this.#show(found, search, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof PermissionDeniedError) {
        const by = error instanceof RegistryRefusal ? "registry" : "token server";
        this.#refusals.add(found.key, search.target, error, by);
      }
      if (error instanceof ServiceError) {
        return error;
      }
      throw error;
    }
  }

  /** @throws {PermissionDeniedError} if the registry has just refused it, or the token server does. */
  async #show(
    identity: Identity,
    { tokenRequest, demand, refusedSha256 }: Search,
    signal: AbortSignal,
  ): Promise<Shown | undefined> {
    if (tokenRequest === undefined) {
      const { basic } = identity;
      if (basic !== undefined && sha256Of(basic.reveal()) === refusedSha256) {
        throw new RegistryRefusal();
      }
      return basic && { value: basic };
    }
    const isInsufficient = demand.scheme === "bearer" && demand.isInsufficient;
    const query = { identity, request: tokenRequest, refusedSha256, isInsufficient };
    const token = await this.#parts.tokens.get(query, signal);
    if (token === undefined) {
      throw new RegistryRefusal();
    }
    return { value: bearerValue(token), renewAtMs: token.renewAtMs };
  }

  #remember(search: Search, { keychain }: Grant, failures: readonly Failure[]): void {
    const { scheme } = search.demand;
    const found = { keychain, challenge: scheme, tried: triedIn(failures) };
    this.#parts.ledger.authorized(wishOf(search), search.host, found);
    const before = this.#memories.get(search.target);
    this.#memories.set(search.target, { demand: search.demand, keychain });
    const fields = { ...explained(search), scheme, keychain };
    if (before?.keychain === keychain) {
      this.#parts.log.debug(fields, "authorization found");
    } else {
      this.#parts.log.info(fields, "authorization found");
    }
  }
}

/** What `keychain` finds. That it cannot look is an obstacle like others: the next keychain may know more. */
async function* candidates(
  keychain: Keychain,
  query: KeychainQuery,
  signal: AbortSignal,
): AsyncGenerator<Identity | Obstacle> {
  try {
    yield* keychain.identities(query, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ServiceError)) {
      throw error;
    }
    yield { obstacle: error };
  }
}

function queryOf({ host, reference, grantee, demand }: Search): KeychainQuery {
  return {
    host: host.host,
    scheme: demand.scheme,
    reference,
    sessionIDs: grantee.sessionIDs,
    anySession: grantee.subject === "layer",
  };
}

/** The registry has not taken what an identity had to show. */
class RegistryRefusal extends PermissionDeniedError {
  constructor() {
    super("the registry refused these credentials");
  }
}

function wishOf({ reference, grantee }: Inquiry) {
  return { reference, access: grantee.access };
}

function triedIn(failures: readonly Failure[]): Tried[] {
  return failures.map(({ keychain, error }) => ({ keychain, reason: error.message }));
}

function explained({ host, reference, grantee }: Search) {
  return { reference, host: host.host, access: grantee.access };
}

/**
 * The error for a search that has found nothing: worth another try only if somebody could not be asked.
 *
 * "no basic auth credentials" is what clients of BuildKit know this by.
 */
function refusal({ host, reference, demand }: Search, failures: readonly Failure[]): ServiceError {
  const told = failures
    .slice(0, maxToldFailures)
    .map(({ keychain, error }) => `${keychain}: ${error.message}`)
    .join("; ");
  const nothing = demand.scheme === "basic" ? "no basic auth credentials" : "no token";
  const message = `Cannot authorize at ${host.host} for ${reference}: ${told || nothing}`;
  return failures.some(({ error }) => !(error instanceof PermissionDeniedError))
    ? new UnavailableError(message)
    : new UnauthenticatedError(message);
}
