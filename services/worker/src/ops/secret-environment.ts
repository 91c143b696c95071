import type { SecretEnv } from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import { findSecret } from "../session/secrets.ts";
import type { SessionManager } from "../session/session-manager.ts";

/**
 * The variables of an environment that hold secrets of the clients, as `NAME=value`.
 *
 * @param sessionIDs those of the clients.
 * @throws {NotFoundError} if none of them has one that is not optional.
 * @throws {InvalidArgumentError} if one cannot stand in an environment.
 */
export async function secretEnvironment(
  wanted: readonly SecretEnv[],
  sessions: SessionManager,
  sessionIDs: readonly string[],
  signal: AbortSignal,
): Promise<string[]> {
  const variables: string[] = [];
  for (const { ID, name, optional } of wanted) {
    if (!/^[^=\0]+$/.test(name)) {
      // Whoever else finds fault with the variable quotes it, and what it holds is a secret.
      throw new InvalidArgumentError(
        `Cannot put secret ${JSON.stringify(ID)} into variable ${JSON.stringify(name)}: want a name without "="`,
      );
    }
    try {
      const secret = await findSecret(sessions, sessionIDs, ID, signal);
      variables.push(`${name}=${variableText(secret, ID)}`);
    } catch (error) {
      if (!(optional && error instanceof NotFoundError)) {
        throw error;
      }
    }
  }
  return variables;
}

/** @throws {InvalidArgumentError} for what cannot stand in an environment; the secret itself is not told. */
function variableText(secret: Uint8Array, id: string): string {
  if (secret.includes(0)) {
    throw new InvalidArgumentError(
      `Cannot put secret ${JSON.stringify(id)} into the environment: it has a zero byte, want text`,
    );
  }
  return Buffer.from(secret).toString();
}
