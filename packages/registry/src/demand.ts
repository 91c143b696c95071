import { InvalidArgumentError, UnauthenticatedError } from "@oci-worker/errdefs";
import { type Challenge, parseChallenges } from "./challenge.ts";
import { isLoopback, type RegistryHost } from "./host.ts";
import { splitScopes } from "./scopes.ts";

/** Headers of one answer that are read; each may hold several challenges. */
const maxHeaders = 16;

/** What a registry wants to see. */
export type Demand = BasicDemand | BearerDemand;

interface BasicDemand {
  readonly scheme: "basic";
}

export interface BearerDemand {
  readonly scheme: "bearer";
  readonly realm: URL;
  readonly service: string;
  readonly scopes: readonly string[];
  /** The registry took the token for good, but it allows too little. */
  readonly isInsufficient: boolean;
}

/**
 * What `headers`, the WWW-Authenticate values of a 401 from `host`, demand. A token is preferred to a password.
 *
 * @throws {InvalidArgumentError} if none of them is well-formed.
 * @throws {UnauthenticatedError} if they are, and none is of a kind that we know.
 */
export function demandOf(headers: readonly string[], host: RegistryHost): Demand {
  const challenges = parseChallenges(headers.slice(0, maxHeaders));
  const bearer = challenges.find(({ scheme }) => scheme === "bearer");
  const basic = challenges.find(({ scheme }) => scheme === "basic");
  if (bearer !== undefined) {
    const realm = realmOf(bearer, host);
    if (realm !== undefined) {
      return {
        scheme: "bearer",
        realm,
        service: bearer.parameters.get("service") ?? "",
        scopes: splitScopes(bearer.parameters.get("scope")),
        isInsufficient: bearer.parameters.get("error") === "insufficient_scope",
      };
    }
  }
  if (basic !== undefined) {
    return { scheme: "basic" };
  }
  const shown = JSON.stringify(headers.slice(0, maxHeaders).join(", ").slice(0, 300));
  if (bearer !== undefined || challenges.length === 0) {
    throw new InvalidArgumentError(
      `Cannot authorize at ${host.host}: its challenge is ${shown}, want Basic, or Bearer with the URL of a token server as its realm, with https if the registry has it, and not on this machine unless the registry is`,
    );
  }
  throw new UnauthenticatedError(
    `Cannot authorize at ${host.host}: it wants ${challenges.map(({ scheme }) => scheme).join(" or ")}, and we know Basic and Bearer`,
  );
}

/** The token server; undefined if the challenge names none that credentials may be sent to. */
function realmOf({ parameters }: Challenge, { scheme, host }: RegistryHost): URL | undefined {
  const text = parameters.get("realm") ?? "";
  const realm = URL.canParse(text) ? new URL(text) : undefined;
  if (realm === undefined || realm.username !== "" || realm.password !== "") {
    return undefined;
  }
  // A registry elsewhere has no token server on this machine; what it names there is somebody else's.
  const isHere = isLoopback(realm.host);
  if (isHere && !isLoopback(host)) {
    return undefined;
  }
  // A registry with https does not get our credentials sent in the clear to somewhere else.
  const isSafe = realm.protocol === "https:" || scheme === "http" || isHere;
  return isSafe && /^https?:$/.test(realm.protocol) ? realm : undefined;
}
