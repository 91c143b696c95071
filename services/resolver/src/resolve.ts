import { ServiceError } from "@oci-worker/errdefs";
import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";
import type { RegistryHost } from "@oci-worker/registry/host";
import type { Logger } from "pino";
import { type Access, formatHandle } from "./handle.ts";
import type { RegistryHosts } from "./hosts/hosts.ts";
import { type Candidate, cannotUse, parseLabels, type Skipped } from "./labels.ts";

/** How long may be spent on finding out which sessions are alive: it decides an order, and nothing else. */
const livenessTimeoutMs = 1000;

/** A place to read an image or one of its layers from. */
export interface Source {
  readonly reference: Reference;
  /** What labels say of the layer; absent for an image. */
  readonly layer?: Candidate;
  /** In the order in which to try them. */
  readonly hosts: readonly RegistryHost[];
  readonly handle: string;
  readonly sessionIDs: readonly string[];
}

export interface ResolverParts {
  readonly hosts: RegistryHosts;
  /** Which of these sessions are alive; without it, nobody knows and all count the same. */
  readonly liveSessions?: (
    sessionIDs: readonly string[],
    signal: AbortSignal,
  ) => Promise<ReadonlySet<string>>;
  readonly log: Logger;
}

/** Says what labels and references stand for, and who serves it. */
export class Resolver {
  readonly #parts: ResolverParts;

  constructor(parts: ResolverParts) {
    this.#parts = parts;
  }

  /**
   * Where an image is served.
   *
   * @throws {InvalidArgumentError} if it is no reference.
   * @throws {UnavailableError} if the settings of its registry cannot be read.
   */
  async image(reference: string, sessionIDs: readonly string[], access: Access): Promise<Source> {
    const parsed = parseReference(reference);
    const handle = formatHandle({ reference: parsed, access, sessionIDs, subject: "image" });
    const hosts = await this.#parts.hosts.of(parsed.domain, access);
    return { reference: parsed, hosts, handle, sessionIDs };
  }

  /**
   * Where the layer behind the labels of a snapshot is served: images whose sessions are alive first, because their
   * credentials are, and in the order of the labels otherwise.
   *
   * @throws {InvalidArgumentError} if none of the labels is about sources.
   */
  async layer(
    labels: Readonly<Record<string, string>>,
    access: Access,
    signal: AbortSignal,
  ): Promise<{ readonly sources: readonly Source[]; readonly skipped: readonly Skipped[] }> {
    const { candidates, skipped: unread } = parseLabels(labels);
    const skipped = [...unread];
    const live = await this.#live(candidates, signal);
    const rank = ({ sessionIDs }: Candidate) => (sessionIDs.some((id) => live.has(id)) ? 0 : 1);
    const sorted = candidates.toSorted((a, b) => rank(a) - rank(b));
    const hosts = await this.#hostsOf(candidates, access);
    const sources: Source[] = [];
    for (const layer of sorted) {
      const found = hosts.get(layer.reference.domain) ?? [];
      if (found instanceof ServiceError) {
        skipped.push(badHosts(layer, found));
      } else {
        sources.push(layerSource(layer, found, access));
      }
    }
    this.#parts.log.debug(
      { references: sources.map(({ reference }) => formatReference(reference)), skipped: skipped.length },
      "labels resolved",
    );
    return { sources, skipped };
  }

  /** Who serves each registry, or why that is not known: bad settings of one do not cost the others. */
  async #hostsOf(
    candidates: readonly Candidate[],
    access: Access,
  ): Promise<ReadonlyMap<string, readonly RegistryHost[] | ServiceError>> {
    const domains = new Set(candidates.map(({ reference }) => reference.domain));
    const found = new Map<string, readonly RegistryHost[] | ServiceError>();
    for (const domain of domains) {
      try {
        found.set(domain, await this.#parts.hosts.of(domain, access));
      } catch (error) {
        if (!(error instanceof ServiceError)) {
          throw error;
        }
        found.set(domain, error);
      }
    }
    return found;
  }

  async #live(candidates: readonly Candidate[], signal: AbortSignal): Promise<ReadonlySet<string>> {
    const { liveSessions, log } = this.#parts;
    const ids = [...new Set(candidates.flatMap(({ sessionIDs }) => sessionIDs))];
    // With a single candidate there is no order to decide.
    if (liveSessions === undefined || ids.length === 0 || candidates.length < 2) {
      return new Set();
    }
    try {
      return await liveSessions(ids, AbortSignal.any([signal, AbortSignal.timeout(livenessTimeoutMs)]));
    } catch (err) {
      signal.throwIfAborted();
      log.debug({ err }, "sessions not known");
      return new Set();
    }
  }
}

function layerSource(layer: Candidate, hosts: readonly RegistryHost[], access: Access): Source {
  const { reference, sessionIDs } = layer;
  const handle = formatHandle({ reference, access, sessionIDs, subject: "layer" });
  return { reference, layer, hosts, handle, sessionIDs };
}

function badHosts({ id, label }: Candidate, { message }: ServiceError): Skipped {
  return { id, label, reason: "bad-hosts", message: `${cannotUse(label)}: ${message}` };
}
