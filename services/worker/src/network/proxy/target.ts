import { isIP } from "node:net";

/** Where a request is to go. */
export interface Target {
  readonly scheme: "http" | "https";
  /** A name or an address, that of IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** What the server is told that it was called. */
  readonly hostHeader: string;
  /** Path and query, as the client has written them. */
  readonly path: string;
  /** What people are shown: upstream's form, credentials masked and the usual port left out. */
  readonly url: string;
}

interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

const usualPorts = { http: 80, https: 443 } as const;

/** Of RFC 9112, 3.2.2; the rest is the path, whatever is in it. */
const absoluteForm = /^(https?):\/\/([^/?#]*)([^#]*)/i;

/** What stands between a name and its end: nothing that would be read in another way elsewhere. */
const namePattern = /^[A-Za-z0-9._-]{1,253}$/;

/**
 * The target of a request to a proxy: a whole URL, or a path with the header Host (RFC 9112, 3.2).
 *
 * @returns undefined if it is none that can be reached by HTTP.
 */
export function targetOf(requestTarget: string, hostHeader: string | undefined): Target | undefined {
  const [, scheme, authority = "", rest = ""] = absoluteForm.exec(requestTarget) ?? [];
  if (scheme !== undefined) {
    return newTarget(scheme.toLowerCase() === "https" ? "https" : "http", authority, rest);
  }
  return requestTarget.startsWith("/") ? newTarget("http", hostHeader ?? "", requestTarget) : undefined;
}

/** The target of a request inside a tunnel to `authority`, which it cannot leave whatever else it names. */
export function tunneledTarget(
  requestTarget: string,
  hostHeader: string | undefined,
  authority: string,
): Target | undefined {
  const [, , , rest] = absoluteForm.exec(requestTarget) ?? [];
  const target = newTarget("https", authority, rest ?? requestTarget);
  return target && hostHeader !== undefined ? { ...target, hostHeader } : target;
}

/** Host and port of `authority`, such as "example.com:443" and "[::1]"; undefined if it is none. */
export function hostAndPort(authority: string, usualPort: number): HostAndPort | undefined {
  const [, address, name = "", digits] =
    /^(?:\[([0-9A-Fa-f:.]+)\]|([^:@[\]]+))(?::(\d{0,5}))?$/.exec(authority) ?? [];
  const host = address ?? name;
  const port = digits === undefined || digits === "" ? usualPort : Number(digits);
  const isHost = address === undefined ? namePattern.test(host) : isIP(host) === 6;
  return isHost && port > 0 && port < 65_536 ? { host, port } : undefined;
}

function newTarget(scheme: "http" | "https", authority: string, rest: string): Target | undefined {
  const at = authority.lastIndexOf("@");
  const place = hostAndPort(authority.slice(at + 1), usualPorts[scheme]);
  if (place === undefined) {
    return undefined;
  }
  const { host, port } = place;
  const path = rest.startsWith("/") ? rest : `/${rest}`;
  const shownHost = host.includes(":") ? `[${host}]` : host;
  const shownPlace = port === usualPorts[scheme] ? shownHost : `${shownHost}:${port}`;
  return {
    scheme,
    host,
    port,
    hostHeader: shownPlace,
    path,
    url: `${scheme}://${masked(authority.slice(0, Math.max(0, at)))}${shownPlace}${path}`,
  };
}

/** A user and a password as upstream shows them. */
function masked(userInfo: string): string {
  if (userInfo === "") {
    return "";
  }
  return userInfo.includes(":") ? "xxxxx:xxxxx@" : "xxxxx@";
}
