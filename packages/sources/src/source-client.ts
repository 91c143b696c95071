import { createHash } from "node:crypto";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  Access,
  type Descriptor,
  type Source as SourceProto,
  SourceService,
} from "@oci-worker/api/ociworker/source";
import { NotFoundError, UnavailableError } from "@oci-worker/errdefs";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import { type Digest, parseDigest } from "@oci-worker/oci/digest";
import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";
import type { Authorization, AuthorizationQuery, Authorizer } from "@oci-worker/registry/authorizer";
import type { OutcomeObserver } from "@oci-worker/registry/client";
import { TransientError } from "@oci-worker/registry/errors";
import type { RegistryHost } from "@oci-worker/registry/host";
import { hostFromProto } from "./host.ts";

/** Longest reason that is told, in characters, and how long that may take. */
const maxFailureLength = 300;
const reportTimeoutMs = 5000;

/**
 * What for a repository is asked for. `insecure-push`: with any certificate or without TLS, as a client wishes it, and with its
 * own credentials alone.
 */
export type SourceAccess = "pull" | "push" | "insecure-push";

const accesses = {
  pull: Access.PULL,
  push: Access.PUSH,
  "insecure-push": Access.PUSH_INSECURE,
} as const satisfies Record<SourceAccess, Access>;

/** Where the images of one repository are, and who authorizes requests for them. */
export interface Source {
  /** In the order in which to try them. */
  readonly hosts: readonly RegistryHost[];
  /** Path of the repository at every one of them. */
  readonly repository: string;
  readonly authorizer: Authorizer;
  /** Tells the resolver how a host did, so that it can explain afterwards where an image came from. */
  readonly onOutcome: OutcomeObserver;
}

/** A layer as a part of one image, and where to read it. */
export interface LayerSource extends Source {
  /** Of the group of labels that it comes from; empty for labels without one. */
  readonly id: string;
  /** The image. */
  readonly reference: Reference;
  readonly target: LayerName;
  /** Layers of the image as far as the labels name them: the target first, then its neighbours. */
  readonly layers: readonly LayerName[];
  /** Of the target's table of contents; undefined if the labels do not say. */
  readonly tocDigest?: Digest;
}

export interface LayerName {
  readonly digest: Digest;
  /** Other places for it, to be tried before the hosts and without authorization. */
  readonly urls: readonly string[];
}

/** A label that led to nothing. */
export interface SkippedLabel {
  readonly id: string;
  readonly label: string;
  /** What was read, and what is wanted. */
  readonly message: string;
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
   * @param sessionIDs attached clients whose credentials may be used. Asked again for each authorization: clients that
   * want the same image join and leave while it is being pulled.
   * @throws {NotFoundError} if no host is known.
   */
  async sourceOf(
    reference: Reference,
    sessionIDs: () => readonly string[],
    access: SourceAccess,
    signal?: AbortSignal,
  ): Promise<Source> {
    const handles = new Handles(sessionIDs(), (ids, limit) => this.#resolve(reference, ids, access, limit));
    const source = this.open(await handles.first(signal));
    const authorize: Authorizer["authorize"] = async (query, limit) =>
      await this.#authorize(await handles.current(sessionIDs(), limit), query, limit);
    return { ...source, authorizer: { authorize } };
  }

  /**
   * Ways to get at the layer that a snapshot with these `labels` is for, the best first, and which labels were of no
   * use. A source stays good for as long as the layer is mounted: it asks for authorizations when it needs them, and
   * any client that uses the image then may give them.
   *
   * @throws {InvalidArgumentError} if the resolver can make nothing of the labels.
   */
  async sourcesOf(
    labels: Readonly<Record<string, string>>,
    signal?: AbortSignal,
  ): Promise<{ readonly sources: readonly LayerSource[]; readonly skipped: readonly SkippedLabel[] }> {
    const request = { query: { case: "labels", value: { labels: { ...labels } } } } as const;
    const { sources, skipped } = await answer(
      this.#client.resolveSources(request, { ...(signal && { signal }) }),
    );
    return {
      sources: sources.flatMap((source) => {
        const { target } = source;
        return target === undefined ? [] : [{ ...this.open(source), ...layerOf(source, target) }];
      }),
      skipped: skipped.map(({ id, label, message }) => ({ id, label, message })),
    };
  }

  /** Makes an answer of the resolver usable. It stays so when the resolver restarts. */
  open({ handle, hosts, repository }: SourceProto): Source {
    return {
      hosts: hosts.map(hostFromProto),
      repository,
      authorizer: { authorize: (query, signal) => this.#authorize(handle, query, signal) },
      onOutcome: this.#reporter(handle),
    };
  }

  async #resolve(
    reference: Reference,
    sessionIDs: readonly string[],
    access: SourceAccess,
    signal: AbortSignal | undefined,
  ): Promise<SourceProto> {
    const query = { reference: formatReference(reference), sessionIds: [...sessionIDs] };
    const request = {
      query: { case: "reference", value: query },
      access: accesses[access],
    } as const;
    const { sources } = await answer(this.#client.resolveSources(request, { ...(signal && { signal }) }));
    const [source] = sources;
    if (source === undefined) {
      throw new NotFoundError(`Cannot find ${query.reference}: the resolver knows no host that serves it`);
    }
    return source;
  }

  /** @throws TransientError if a token server or a client could not be asked now: the request may be tried again. */
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
    try {
      const response = await answer(this.#client.authorize(request, { ...(signal && { signal }) }));
      const { authorization, expiresAt } = response;
      return {
        ...(authorization !== "" && { value: authorization }),
        ...(expiresAt && { expiresAtMs: timestampMs(expiresAt) }),
      };
    } catch (error) {
      throw error instanceof UnavailableError ? new TransientError(error.message, { cause: error }) : error;
    }
  }

  /** Tells the resolver of each change. Nobody waits for that, and nothing depends on it. */
  #reporter(handle: string): OutcomeObserver {
    const told = new Map<string, string>();
    return ({ host }, failure = "") => {
      if (told.get(host) === failure) {
        return;
      }
      told.set(host, failure);
      const report = { handle, host, failure: failure.slice(0, maxFailureLength) };
      this.#client.reportOutcome(report, { timeoutMs: reportTimeoutMs }).catch(() => undefined);
    };
  }
}

/** The handle of an image for the clients that want it now. */
class Handles {
  #sessionIDs: readonly string[];
  readonly #resolve: (sessionIDs: readonly string[], signal: AbortSignal | undefined) => Promise<SourceProto>;
  #handle = "";

  constructor(
    sessionIDs: readonly string[],
    resolve: (sessionIDs: readonly string[], signal: AbortSignal | undefined) => Promise<SourceProto>,
  ) {
    this.#sessionIDs = sessionIDs;
    this.#resolve = resolve;
  }

  async first(signal: AbortSignal | undefined): Promise<SourceProto> {
    const source = await this.#resolve(this.#sessionIDs, signal);
    this.#handle = source.handle;
    return source;
  }

  /** When all clients have gone, nobody wants the image any more, or somebody does who needs no client: it stays. */
  async current(sessionIDs: readonly string[], signal: AbortSignal | undefined): Promise<string> {
    if (sessionIDs.length > 0 && sessionIDs.join() !== this.#sessionIDs.join()) {
      const { handle } = await this.#resolve(sessionIDs, signal);
      this.#sessionIDs = sessionIDs;
      this.#handle = handle;
    }
    return this.#handle;
  }
}

function layerOf({ id, reference, layers, tocDigest }: SourceProto, target: Descriptor) {
  return {
    id,
    reference: parseReference(reference),
    target: layerName(target),
    layers: layers.map(layerName),
    ...(tocDigest !== "" && { tocDigest: parseDigest(tocDigest) }),
  };
}

function layerName({ digest, urls }: Descriptor): LayerName {
  return { digest: parseDigest(digest), urls };
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
