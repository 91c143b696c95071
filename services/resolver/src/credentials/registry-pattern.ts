import { dockerHubHost, isDockerHub } from "@oci-worker/credentials/credentials";

/**
 * Which registries and repositories credentials are for, as Kubernetes writes it: a host with or without port, whose parts
 * between dots may have `*` for any characters, and with or without the start of the repository's path.
 */
export interface RegistryPattern {
  readonly text: string;
  /** Of the host, in lower case, with its port. */
  readonly host: string;
  /** Empty for all repositories. */
  readonly path: string;
}

/** A host with or without port, and a path. */
const patternGrammar =
  /^(?:https?:\/\/)?([A-Za-z0-9*.-]+(?::\d{1,5})?|\[[0-9A-Fa-f:]+\](?::\d{1,5})?)(?:\/(.*))?$/;

/** What older configurations have before or in place of a repository: the version of the registry's API. */
const apiVersion = /^v[12](?:\/|$)/;

/** @returns undefined if `text` is no pattern. */
export function parseRegistryPattern(text: string): RegistryPattern | undefined {
  const [, name, path = ""] = patternGrammar.exec(text) ?? [];
  if (name === undefined) {
    return undefined;
  }
  const host = isDockerHub(name) ? dockerHubHost : name.toLowerCase();
  return { text, host, path: path.replace(apiVersion, "").replace(/\/+$/, "") };
}

/** Whether `repository` at the endpoint `host` is among what a pattern means. */
export function patternMatches({ host, path }: RegistryPattern, target: string, repository: string): boolean {
  return hostMatches(host, target.toLowerCase()) && (path === "" || `${repository}/`.startsWith(`${path}/`));
}

function hostMatches(pattern: string, host: string): boolean {
  const wanted = pattern.split(".");
  const parts = host.split(".");
  return (
    wanted.length === parts.length && wanted.every((each, index) => partMatches(each, parts[index] ?? ""))
  );
}

/** Without a regular expression, which a pattern could make slow: the pieces between the stars, one after another. */
function partMatches(pattern: string, part: string): boolean {
  const [start = "", ...pieces] = pattern.split("*");
  const end = pieces.pop();
  if (end === undefined) {
    return pattern === part;
  }
  let at = start.length;
  for (const piece of pieces) {
    const found = part.indexOf(piece, at);
    if (found < 0) {
      return false;
    }
    at = found + piece.length;
  }
  return part.startsWith(start) && part.length - end.length >= at && part.endsWith(end);
}

/** Orders patterns as Kubernetes tries them: those with the longer path first, and those without stars before others. */
export function byPrecision(a: RegistryPattern, b: RegistryPattern): number {
  const stars = ({ host }: RegistryPattern) => (host.includes("*") ? 1 : 0);
  return b.path.length - a.path.length || stars(a) - stars(b);
}
