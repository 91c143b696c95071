import type { Credentials } from "@oci-worker/credentials/credentials";
import { Secret } from "@oci-worker/credentials/secret";
import { InvalidArgumentError, UnavailableError } from "@oci-worker/errdefs";
import { parseReference } from "@oci-worker/oci/reference";
import type { Logger } from "pino";
import { FreshFile } from "../fresh-file.ts";
import type { TokenFetcher } from "../token/fetch-token.ts";
import { found } from "./found.ts";
import type { Identity, Keychain, KeychainQuery, Obstacle } from "./identity.ts";
import { byPrecision, patternMatches } from "./registry-pattern.ts";
import type { StaticEntry } from "./static-entries.ts";
import { storedIdentity } from "./stored-identity.ts";

/** Longest secret that is read, in bytes. */
const maxSecretBytes = 64 * 1024;

/** The permission to read for everybody who is neither owner nor of the group (inode(7), S_IROTH). */
const othersMayRead = 0o004;

interface Opened {
  readonly entry: StaticEntry;
  readonly file: FreshFile<Secret>;
}

/**
 * The credentials of the config. Their secrets stand in files, which are read again when they have changed. They are the
 * operator's, so every build and every snapshot may use them.
 */
export class StaticKeychain implements Keychain {
  readonly name = "static";
  readonly #entries: readonly Opened[];
  readonly #fetcher: TokenFetcher;

  constructor(entries: readonly StaticEntry[], fetcher: TokenFetcher, log: Logger) {
    const sorted = entries.toSorted((a, b) => byPrecision(a.registry, b.registry));
    this.#entries = sorted.map((entry) => ({ entry, file: openSecret(entry.secretFile, log) }));
    this.#fetcher = fetcher;
  }

  /** The entry that fits the image best comes first. */
  async *identities(
    { host, reference }: Pick<KeychainQuery, "host" | "reference">,
    signal: AbortSignal,
  ): AsyncGenerator<Identity | Obstacle> {
    const { repository } = parseReference(reference);
    for (const { entry, file } of this.#entries) {
      if (patternMatches(entry.registry, host, repository)) {
        yield* found(async () => [storedIdentity(await credentialsOf(entry, file), this.#fetcher)], signal);
      }
    }
  }
}

async function credentialsOf(entry: StaticEntry, file: FreshFile<Secret>): Promise<Credentials> {
  const secret = await file.read();
  if (secret === undefined) {
    throw new UnavailableError(
      `Cannot use the credentials for ${entry.registry.text}: there is no file ${file.path}`,
    );
  }
  return entry.kind === "password"
    ? { kind: "password", username: entry.username ?? "", password: secret }
    : { kind: entry.kind, token: secret };
}

function openSecret(path: string, log: Logger): FreshFile<Secret> {
  return new FreshFile(path, maxSecretBytes, (bytes, mode) => {
    if ((mode & othersMayRead) !== 0) {
      log.warn({ path, mode: (mode & 0o7777).toString(8) }, "everybody may read this secret");
    }
    // Editors and `echo` end a file with a line break, which is no part of the secret.
    const secret = bytes.toString("utf8").replace(/\r?\n$/, "");
    if (secret === "" || /[\0\r\n]/.test(secret)) {
      throw new InvalidArgumentError("want one line with the secret and nothing else");
    }
    return new Secret(secret);
  });
}
