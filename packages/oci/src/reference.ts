import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Digest, parseDigest } from "./digest.ts";

/**
 * The name of an image with everything filled in, as Docker does it: "alpine" is
 * `docker.io/library/alpine:latest`.
 */
export interface Reference {
  /** The registry as people name it, with its port if it has one. Not the host that serves it: see `docker.io`. */
  readonly domain: string;
  /** Path of the repository at that registry, such as `library/alpine`. */
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

/** Docker Hub's domain; `index.docker.io` is its former one. */
export const dockerHub = "docker.io";
const formerDockerHub = "index.docker.io";

/** Longest path of a repository (distribution/reference, RepositoryNameTotalLengthMax). */
const maxRepositoryLength = 255;

/** Longest reference of all: domain, repository, tag and digest with room to spare. */
const maxReferenceLength = 1024;

// The grammar of distribution/reference, regexp.go.
const domainLabel = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
const domainPattern = new RegExp(
  String.raw`^(?:${domainLabel}(?:\.${domainLabel})*|\[[0-9A-Fa-f:]+\])(?::([0-9]+))?$`,
);
const pathComponent = /^[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const imageID = /^[0-9a-f]{64}$/;

/**
 * Reads the name of an image, with or without registry, tag and digest. Without tag and digest it means
 * `latest`.
 *
 * @throws {InvalidArgumentError} saying which part is wrong and what it should be.
 */
export function parseReference(text: string): Reference {
  const fail = (reason: string, options?: ErrorOptions) =>
    new InvalidArgumentError(`Cannot use ${quoted(text)} as an image reference: ${reason}`, options);
  if (text === "") {
    throw fail("it is empty");
  }
  if (text.length > maxReferenceLength) {
    throw fail(`it has ${text.length} characters, want at most ${maxReferenceLength}`);
  }
  if (imageID.test(text)) {
    throw fail("it is 64 hex digits, the id of an image and not its name");
  }
  const { name, tag, digest } = splitReference(text);
  const { domain, repository } = splitName(name);
  const problem = domainProblem(domain) ?? repositoryProblem(repository) ?? tagProblem(tag);
  if (problem !== undefined) {
    throw fail(problem);
  }
  if (digest === undefined) {
    return { domain, repository, tag: tag ?? "latest" };
  }
  try {
    return { domain, repository, ...(tag !== undefined && { tag }), digest: parseDigest(digest) };
  } catch (cause) {
    throw fail("its digest is not sha256 with 64 lower-case hex digits", { cause });
  }
}

/** The full text of a reference; {@link parseReference} gives the same reference back. */
export function formatReference({ domain, repository, tag, digest }: Reference): string {
  const tagPart = tag === undefined ? "" : `:${tag}`;
  const digestPart = digest === undefined ? "" : `@${digest}`;
  return `${domain}/${repository}${tagPart}${digestPart}`;
}

function splitReference(text: string): { name: string; tag?: string; digest?: string } {
  const at = text.indexOf("@");
  const digest = at < 0 ? {} : { digest: text.slice(at + 1) };
  const named = at < 0 ? text : text.slice(0, at);
  const colon = named.indexOf(":", named.lastIndexOf("/") + 1);
  return colon < 0
    ? { name: named, ...digest }
    : { name: named.slice(0, colon), tag: named.slice(colon + 1), ...digest };
}

/** Tells registry and repository apart: what stands before the first slash is a registry if it looks like a host. */
function splitName(name: string): { domain: string; repository: string } {
  const slash = name.indexOf("/");
  const first = name.slice(0, Math.max(0, slash));
  const isHost = /[.:]/.test(first) || first === "localhost";
  const domain = isHost && first !== formerDockerHub ? first : dockerHub;
  const rest = isHost ? name.slice(slash + 1) : name;
  const repository = domain === dockerHub && !rest.includes("/") ? `library/${rest}` : rest;
  return { domain, repository };
}

function domainProblem(domain: string): string | undefined {
  const port = domainPattern.exec(domain);
  if (port === null) {
    return `its registry ${quoted(domain)} is no host name with or without ":port"`;
  }
  return Number(port[1] ?? 1) > 65535 ? `its registry ${quoted(domain)} has a port above 65535` : undefined;
}

function repositoryProblem(repository: string): string | undefined {
  if (repository.length > maxRepositoryLength) {
    return `its repository has ${repository.length} characters, want at most ${maxRepositoryLength}`;
  }
  if (repository !== repository.toLowerCase()) {
    return `its repository ${quoted(repository)} has upper-case letters, want lower-case ones`;
  }
  const bad = repository.split("/").find((component) => !pathComponent.test(component));
  if (bad === undefined) {
    return undefined;
  }
  return bad === ""
    ? `its repository ${quoted(repository)} has an empty component`
    : `its repository has the component ${quoted(bad)}, want lower-case letters and digits with single ".", one or two "_" or any "-" between them`;
}

function tagProblem(tag: string | undefined): string | undefined {
  return tag === undefined || tagPattern.test(tag)
    ? undefined
    : `its tag ${quoted(tag)} is not 1 to 128 letters, digits, "_", "." and "-", the first no "." or "-"`;
}

/** `text` in quotes, cut where it gets too long for an error. */
function quoted(text: string): string {
  return JSON.stringify(text.length > 300 ? `${text.slice(0, 300)}…` : text);
}
