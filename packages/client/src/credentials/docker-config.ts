import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { Fields, parseDocument } from "@oci-worker/oci/document";
import { askCredentialHelper } from "./credential-helper.ts";
import { type CredentialSource, type Credentials, dockerHubHost } from "./credentials.ts";
import { Secret } from "./secret.ts";

/** Under which docker keeps the credentials of Docker Hub. */
const dockerHubKey = "https://index.docker.io/v1/";

/** Other hosts that are Docker Hub's, as people have written them into their configuration. */
const dockerHubHosts: ReadonlySet<string> = new Set([dockerHubHost, "docker.io", "index.docker.io"]);

/** The directory of docker's configuration: `$DOCKER_CONFIG`, or `.docker` at home. */
export function dockerConfigDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  return environment["DOCKER_CONFIG"] || join(homedir(), ".docker");
}

/**
 * The credentials that `docker login` has stored: in `config.json` of `directory`, or with the helper programs that it
 * names.
 *
 * The file is read each time, so a login during a long build counts. Without one nothing is known.
 *
 * @throws (when asked) {InvalidArgumentError} naming the field, if the file is not as docker writes it.
 * @throws (when asked) {UnavailableError} if a helper fails.
 */
export function dockerConfig(directory: string = dockerConfigDirectory()): CredentialSource {
  return {
    async find(host, signal) {
      const config = await readConfig(join(directory, "config.json"));
      return config && (await lookUp(config, host, signal));
    },
  };
}

async function readConfig(path: string): Promise<Fields | undefined> {
  try {
    const what = `docker config ${path}`;
    return new Fields(what, parseDocument(what, await readFile(path)));
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) {
      return undefined;
    }
    throw error;
  }
}

/** A helper for this registry, then the helper for all, then the file itself. */
async function lookUp(
  config: Fields,
  host: string,
  signal: AbortSignal | undefined,
): Promise<Credentials | undefined> {
  const key = dockerHubHosts.has(host) ? dockerHubKey : host;
  const helpers = config.textMap("credHelpers") ?? {};
  const helper = helpers[key] ?? helpers[host] ?? config.text("credsStore");
  if (helper !== undefined && helper !== "") {
    const found = await askCredentialHelper(helper, key, signal);
    if (found !== undefined) {
      return found;
    }
  }
  return inFile(config, host, key);
}

function inFile(config: Fields, host: string, key: string): Credentials | undefined {
  const auths = config.object("auths");
  const exact = auths?.object(key) ?? auths?.object(host);
  if (exact !== undefined) {
    return credentialsIn(exact);
  }
  const similar = (config.set("auths") ?? []).find((each) => isSameHost(hostOf(each), host));
  const entry = similar === undefined ? undefined : auths?.object(similar);
  return entry && credentialsIn(entry);
}

function isSameHost(a: string, b: string): boolean {
  return a === b || (dockerHubHosts.has(a) && dockerHubHosts.has(b));
}

/** The host of a key, which older versions of docker wrote as a URL. */
function hostOf(key: string): string {
  return key.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
}

function credentialsIn(entry: Fields): Credentials | undefined {
  const registryToken = entry.text("registrytoken") ?? "";
  if (registryToken !== "") {
    return { kind: "registry-token", token: new Secret(registryToken) };
  }
  const identityToken = entry.text("identitytoken") ?? "";
  if (identityToken !== "") {
    return { kind: "identity-token", token: new Secret(identityToken) };
  }
  const [username, password] = basicOf(entry);
  return password === "" ? undefined : { kind: "password", username, password: new Secret(password) };
}

/** `auth` is the base64 of `username:password`; both may also stand there by themselves. */
function basicOf(entry: Fields): [username: string, password: string] {
  const auth = entry.text("auth") ?? "";
  if (auth === "") {
    return [entry.text("username") ?? "", entry.text("password") ?? ""];
  }
  const text = Buffer.from(auth, "base64").toString();
  const colon = text.indexOf(":");
  if (colon <= 0) {
    throw entry.error("auth", 'want the base64 of "username:password"');
  }
  // docker has written passwords with NULs at their end.
  return [text.slice(0, colon), text.slice(colon + 1).replace(/\0+$/, "")];
}
