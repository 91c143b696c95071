import type { ChainID } from "@oci-worker/oci/chain-id";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import type { Platform } from "@oci-worker/oci/platform";
import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";
import type { RegistryClient } from "@oci-worker/registry/client";
import type { Repository, Retry } from "@oci-worker/registry/repository";
import type { SourceAccess, SourceClient } from "@oci-worker/sources/source-client";
import type { Logger } from "pino";
import type { Lease } from "../cache/lease.ts";
import type { CacheRecords } from "../cache/records.ts";
import type { ContentStore } from "../content/store.ts";
import type { SessionManager } from "../session/session-manager.ts";
import type { VertexReport } from "../solver/vertex-report.ts";
import { fetchLayer } from "./fetch-layer.ts";
import { type Image, resolveImage } from "./image.ts";
import type { UnpackContext, Unpacker } from "./unpack.ts";

/** An image, and where its layers can be had. */
export interface PulledImage {
  /** What it was asked for as. */
  readonly name: string;
  readonly image: Image;
  readonly repository: Repository;
}

export interface ImageStoreParts {
  readonly sources: SourceClient;
  readonly registry: RegistryClient;
  readonly content: ContentStore;
  readonly records: CacheRecords;
  readonly unpacker: Unpacker;
  readonly sessions: SessionManager;
  readonly log: Logger;
}

/** For whom an image is pulled. */
export interface PullContext {
  /** Told what is tried again. */
  readonly report: Pick<VertexReport, "log">;
  readonly signal: AbortSignal;
  /** Holds what is found and made. */
  readonly lease: Lease;
  /** The clients that want it now, whose credentials may be used for it and for its layers. */
  sessionIDs(): readonly string[];
}

/** For whom a registry is asked. */
export type RegistryContext = Pick<PullContext, "sessionIDs" | "report" | "signal">;

/** The stream of a vertex's log on which it says what goes wrong. */
const stderr = 2;

/** Images of registries, as far as they are here. */
export class ImageStore {
  readonly #parts: ImageStoreParts;

  constructor(parts: ImageStoreParts) {
    this.#parts = parts;
  }

  /**
   * Finds out what `reference` stands for; see {@link resolveImage}.
   *
   * Its layers may be pulled later on by the same sessions, and what goes wrong then is told to the same report.
   */
  async resolve(
    reference: Reference,
    platform: Platform,
    { sessionIDs, report, lease, signal }: PullContext,
  ): Promise<PulledImage> {
    const { content } = this.#parts;
    const repository = await this.#repository(reference, "pull", { sessionIDs, report, signal });
    const image = await resolveImage(reference, platform, repository, content, lease, signal);
    return { name: formatReference(reference), image, repository };
  }

  /**
   * Gets a layer of the image `reference` into the content store, where the lease keeps it.
   *
   * @throws {NotFoundError} if the registry does not have it any more.
   */
  async fetchLayer(reference: string, blob: Descriptor, context: PullContext & UnpackContext): Promise<void> {
    context.lease.holdBlob(blob.digest);
    if ((await this.#parts.content.info(blob.digest)) === undefined) {
      const repository = await this.#repository(parseReference(reference), "pull", context);
      await fetchLayer(blob, repository, this.#parts.content, context.report, context.signal);
    }
  }

  /**
   * Where the image `reference` is to be pushed to: the registry itself, never a mirror.
   *
   * @param isInsecure whoever answers there.
   */
  target(reference: Reference, isInsecure: boolean, context: RegistryContext): Promise<Repository> {
    return this.#repository(reference, isInsecure ? "insecure-push" : "push", context);
  }

  async #repository(
    reference: Reference,
    access: SourceAccess,
    { sessionIDs, report, signal }: RegistryContext,
  ): Promise<Repository> {
    const { log, registry, sessions, sources } = this.#parts;
    const name = formatReference(reference);
    const noted = () => {
      const ids = sessionIDs();
      sessions.noteReference(ids, name);
      return ids;
    };
    const onRetry = ({ reason, delayMs }: Retry) => {
      log.warn({ reference: name, reason, delayMs }, "registry request is tried again");
      // Whoever looks at the build need not wait for the last try to learn what is wrong.
      report.log(stderr, Buffer.from(`${reason}; trying again in ${(delayMs / 1000).toFixed(1)} s\n`));
    };
    const source = await sources.sourceOf(reference, noted, access, signal);
    return registry.repository({ ...source, onRetry });
  }

  /** Makes the image's root file system a snapshot; see {@link Unpacker.unpack}. */
  unpack({ name, image, repository }: PulledImage, context: UnpackContext): Promise<ChainID | undefined> {
    return this.#parts.unpacker.unpack(image, { ...context, repository, name });
  }

  /** What holds an image that is asked for outside a step. */
  lease(): Lease {
    return this.#parts.records.lease();
  }
}
