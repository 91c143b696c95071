import { FailedPreconditionError } from "@oci-worker/errdefs";

/** Redirects that one request follows; Go's and containerd's number. */
export const maxRedirects = 10;

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Those that keep the method and the body of the request (RFC 9110, 15.4). */
const methodKeeping: ReadonlySet<number> = new Set([307, 308]);

export interface RedirectQuery {
  readonly method: string;
  readonly url: URL;
  readonly status: number;
  readonly location: string | undefined;
}

/**
 * Where a response sends us on to; undefined if it does not.
 *
 * A redirect that would change the method of a write is none: nobody may turn an upload into a download.
 *
 * @throws {FailedPreconditionError} if the target is no http or https URL, or gives up https.
 */
export function redirectTarget({ method, url, status, location }: RedirectQuery): URL | undefined {
  const keepsMethod = method === "GET" || method === "HEAD" || methodKeeping.has(status);
  if (!redirectStatuses.has(status) || location === undefined || !keepsMethod) {
    return undefined;
  }
  return resolveLocation(url, location);
}

/**
 * The URL that a Location header of a response from `base` names.
 *
 * @throws {FailedPreconditionError} if it is no http or https URL, or gives up https.
 */
export function resolveLocation(base: URL, location: string): URL {
  const target = URL.canParse(location, base) ? new URL(location, base) : undefined;
  if (target === undefined || (target.protocol !== "https:" && target.protocol !== "http:")) {
    throw new FailedPreconditionError(
      `Cannot follow ${base.host} to another place: what it names is no http or https URL`,
    );
  }
  if (base.protocol === "https:" && target.protocol === "http:") {
    throw new FailedPreconditionError(
      `Cannot follow ${base.host} to ${target.host}: it leads from https to plain http`,
    );
  }
  // Credentials in the URL are not ours, and Node would send them.
  target.username = "";
  target.password = "";
  return target;
}
