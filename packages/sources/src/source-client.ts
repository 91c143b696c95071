import { createHash } from "node:crypto";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { Access, type Source as SourceProto, SourceService } from "@oci-worker/api/ociworker/source";
import { NotFoundError } from "@oci-worker/errdefs";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import { formatReference, type Reference } from "@oci-worker/oci/reference";
import type { Authorization, AuthorizationQuery, Authorizer } from "@oci-worker/registry/authorizer";
import type { RegistryHost } from "@oci-worker/registry/host";
import { hostFromProto } from "./host.ts";

/** Where the images of one repository are, and who authorizes requests for them. */
export interface Source {
  /** In the order in which to try them. */
  readonly hosts: readonly RegistryHost[];
  /** Path of the repository at every one of them. */
  readonly repository: string;
  readonly authorizer: Authorizer;
}

/**
 * The resolver service, for whoever reads from registries or writes to them: it says which hosts serve an image, and
 * gives the headers that they ask for. No credential is ever seen on this side.
 */
export class SourceClient {
  readonly #client: Client<typeof SourceService>;

  constructor(transport: Transport) {
    this.#client = createClient(SourceService, transport);
  }

  /**
   * Where the image `reference` is.
   *
   * @param sessionIDs attached clients whose credentials may be used.
   * @throws {NotFoundError} if no host is known.
   */
  async sourceOf(
    reference: Reference,
    sessionIDs: readonly string[],
    access: "pull" | "push",
    signal?: AbortSignal,
  ): Promise<Source> {
    const query = { reference: formatReference(reference), sessionIds: [...sessionIDs] };
    const request = {
      query: { case: "reference", value: query },
      access: access === "pull" ? Access.PULL : Access.PUSH,
    } as const;
    const { sources } = await answer(this.#client.resolveSources(request, { ...(signal && { signal }) }));
    const [source] = sources;
    if (source === undefined) {
      throw new NotFoundError(`Cannot find ${query.reference}: the resolver knows no host that serves it`);
    }
    return this.open(source);
  }

  /** Makes an answer of the resolver usable. It stays so when the resolver restarts. */
  open({ handle, hosts, repository }: SourceProto): Source {
    return {
      hosts: hosts.map(hostFromProto),
      repository,
      authorizer: { authorize: (query, signal) => this.#authorize(handle, query, signal) },
    };
  }

  async #authorize(
    handle: string,
    { host, challenges, refused, extraScopes = [] }: AuthorizationQuery,
    signal: AbortSignal | undefined,
  ): Promise<Authorization> {
    const request = {
      handle,
      host,
      challenges: [...challenges],
      refusedAuthorizationSha256: refused === undefined ? "" : hashOf(refused),
      extraScopes: [...extraScopes],
    };
    const response = await answer(this.#client.authorize(request, { ...(signal && { signal }) }));
    const { authorization, expiresAt } = response;
    return {
      ...(authorization !== "" && { value: authorization }),
      ...(expiresAt && { expiresAtMs: timestampMs(expiresAt) }),
    };
  }
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

async function answer<T>(response: Promise<T>): Promise<T> {
  try {
    return await response;
  } catch (thrown) {
    throw fromConnectError(thrown);
  }
}
