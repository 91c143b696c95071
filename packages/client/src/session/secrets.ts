import { Secrets } from "@oci-worker/api/session/secrets";
import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import { type Implementation, implement } from "@oci-worker/grpc/router";

/** Gives the secret with this id, or undefined if there is none. */
export type SecretSource = (id: string, signal: AbortSignal) => Promise<Uint8Array | undefined>;

/** Largest secret, in bytes (BuildKit, session/secrets). */
const maxSecretBytes = 500 * 1024;

/** Serves moby.buildkit.secrets.v1.Secrets: lends build steps the secrets of `source`. */
export function secretsService(source: SecretSource): Implementation {
  return implement(Secrets, {
    async getSecret({ ID }, { signal }) {
      const data = await source(ID, signal);
      if (data === undefined) {
        throw new NotFoundError(`Cannot give secret ${JSON.stringify(ID)}: secret not found`);
      }
      if (data.length > maxSecretBytes) {
        throw new InvalidArgumentError(
          `Cannot give secret ${JSON.stringify(ID)}: it has ${data.length} bytes, want at most ${maxSecretBytes}`,
        );
      }
      return { data };
    },
  });
}
