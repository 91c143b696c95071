import { InvalidArgumentError } from "@oci-worker/errdefs";
import { Fields, parseDocument } from "@oci-worker/oci/document";
import { type Credentials, isDockerHub } from "./credentials.ts";
import { Secret } from "./secret.ts";

/** A docker `config.json`, as far as it is about credentials. Entries are read when they are asked for. */
export interface DockerConfig {
  readonly auths: ReadonlyMap<string, Fields>;
  /** Credential helpers by registry. */
  readonly helpers: Readonly<Record<string, string>>;
  /** The helper for all other registries. */
  readonly defaultHelper: string | undefined;
}

/** Longest file that is read, in bytes. */
export const maxConfigBytes = 1024 * 1024;

/** What the file calls Docker Hub. */
const dockerHubKey = "https://index.docker.io/v1/";

/** What may follow `docker-credential-` in the name of a program. */
const helperName = /^[A-Za-z0-9._-]{1,100}$/;

/**
 * Reads a docker `config.json`. Nothing of its values gets into an error.
 *
 * @param what names the file in errors.
 * @throws {InvalidArgumentError} naming the field at fault.
 */
export function parseDockerConfig(bytes: Uint8Array, what = "docker config"): DockerConfig {
  const fields = new Fields(what, parseDocument(what, bytes, maxConfigBytes));
  return {
    auths: new Map(fields.entries("auths")),
    helpers: fields.textMap("credHelpers") ?? {},
    defaultHelper: fields.text("credsStore") || undefined,
  };
}

/** Keys under which a registry may stand in the file, for its endpoint `host`: the best first. */
function configKeys(host: string): string[] {
  return isDockerHub(host)
    ? [dockerHubKey, "index.docker.io", "docker.io", "registry-1.docker.io"]
    : [host, `https://${host}`, `http://${host}`];
}

/** A credential helper, and what to ask it for. */
export interface HelperQuery {
  /** What follows `docker-credential-` in the name of the program. */
  readonly name: string;
  readonly server: string;
}

/**
 * The helper that knows the registry with the endpoint `host`; undefined if there is none.
 *
 * @throws {InvalidArgumentError} if what the file says is no name of a program.
 */
export function helperFor({ helpers, defaultHelper }: DockerConfig, host: string): HelperQuery | undefined {
  const keys = configKeys(host);
  const named = keys.find((key) => Object.hasOwn(helpers, key));
  const name = named === undefined ? defaultHelper : helpers[named];
  if (name === undefined) {
    return undefined;
  }
  if (!helperName.test(name)) {
    throw new InvalidArgumentError(
      `Cannot read docker config: ${JSON.stringify(name.slice(0, 100))} is no name of a credential helper`,
    );
  }
  return { name, server: named ?? keys[0] ?? host };
}

/**
 * What the file itself says of the registry with the endpoint `host`, the best first.
 *
 * @throws {InvalidArgumentError} naming the field at fault.
 */
export function authFor({ auths }: DockerConfig, host: string): Credentials[] {
  const keys = configKeys(host);
  const exact = keys.find((key) => auths.has(key));
  // Older files name a registry by the URL of its API.
  const key = exact ?? [...auths.keys()].find((each) => keys.includes(hostOf(each)));
  const fields = key === undefined ? undefined : auths.get(key);
  return fields === undefined ? [] : parseAuth(fields);
}

function hostOf(key: string): string {
  return key.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
}

/**
 * What an entry of `auths` says, the best first. An identity token stands for the password that it was got with.
 *
 * @throws {InvalidArgumentError} naming the field at fault, and not showing it.
 */
export function parseAuth(fields: Fields): Credentials[] {
  const registryToken = fields.text("registrytoken");
  const identityToken = fields.text("identitytoken");
  const pair = parsePair(fields);
  return [
    ...(registryToken ? [{ kind: "registry-token", token: new Secret(registryToken) } as const] : []),
    ...(identityToken ? [{ kind: "identity-token", token: new Secret(identityToken) } as const] : pair),
  ];
}

/** User name and password: both together in base64, or each by itself. */
function parsePair(fields: Fields): Credentials[] {
  const [username, password] = pairIn(fields);
  return username && password ? [{ kind: "password", username, password: new Secret(password) }] : [];
}

function pairIn(fields: Fields): [username: string | undefined, password: string | undefined] {
  const auth = fields.text("auth");
  if (!auth) {
    return [fields.text("username"), fields.text("password")];
  }
  // Docker itself pads with NULs.
  const pair = Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = pair.indexOf(":");
  if (colon <= 0) {
    throw fields.error("auth", "it is no base64 of a user name, a colon and a password");
  }
  return [pair.slice(0, colon), pair.slice(colon + 1)];
}
