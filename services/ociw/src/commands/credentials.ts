import { type CredentialSource, credentialsFor, firstOf, registryHost } from "@oci-worker/client/credentials";
import { dockerConfig, dockerConfigDirectory } from "@oci-worker/client/docker-config";
import type { Reference } from "@oci-worker/oci/reference";
import type { FlagSpecs, ParsedArgs } from "../args/flags.ts";
import { UsageError } from "../args/usage-error.ts";
import type { Terminal } from "../terminal.ts";
import { readPassword } from "./password.ts";

/** The flags of commands that use registries. @param image which of their words names the registry. */
export function credentialFlags(image: string) {
  return {
    username: { value: "NAME", help: `user name at the registry of ${image}` },
    "password-stdin": { help: "read the password for --username from standard input" },
  } as const satisfies FlagSpecs;
}

/**
 * The user name that is given together with a password on standard input. A password is never an argument: every user of
 * the machine can read those.
 *
 * @throws {UsageError} if one is given without the other.
 */
export function usernameOf(flags: ParsedArgs["flags"]): string | undefined {
  const username = flags["username"]?.[0];
  const hasPassword = flags["password-stdin"] !== undefined;
  if (username !== undefined && !hasPassword) {
    throw new UsageError("Cannot use --username alone: want --password-stdin, too");
  }
  if (username === undefined && hasPassword) {
    throw new UsageError("Cannot use --password-stdin alone: want --username, too");
  }
  return username;
}

/** By its name for BuildKit's clients. */
const noTokensVariable = "BUILDKIT_NO_CLIENT_TOKEN";

/**
 * Whether tokens are got here, as they are unless the environment says otherwise (in Go's spellings of a truth value).
 *
 * @throws {UsageError} if it says neither yes nor no.
 */
export function fetchesTokens(env: NodeJS.ProcessEnv): boolean {
  const said = env[noTokensVariable] || "false";
  if (!/^([01tTfF]|true|True|TRUE|false|False|FALSE)$/.test(said)) {
    throw new UsageError(`Cannot use ${noTokensVariable}: it is ${JSON.stringify(said)}, want true or false`);
  }
  return /^[0f]/i.test(said);
}

/** The credentials of this user: those given for the registry of `reference` and for no other, then docker's. */
export async function credentialsOf(
  username: string | undefined,
  reference: Reference,
  { stdin, env }: Pick<Terminal, "stdin" | "env">,
): Promise<CredentialSource> {
  const stored = dockerConfig(dockerConfigDirectory(env));
  if (username === undefined) {
    return stored;
  }
  const password = await readPassword(stdin);
  const given = credentialsFor(registryHost(reference), { kind: "password", username, password });
  return firstOf([given, stored]);
}
