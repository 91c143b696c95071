import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";
import type { RegistryHost } from "@oci-worker/registry/host";
import type { Logger } from "pino";
import { type Access, formatHandle } from "./handle.ts";
import { hostsFor } from "./hosts/hosts.ts";
import type { RegistryTable } from "./hosts/registry-table.ts";
import { type Candidate, parseLabels, type Skipped } from "./labels.ts";

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
  readonly table: RegistryTable;
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

  /** Where an image is served. */
  async image(reference: string, sessionIDs: readonly string[], access: Access): Promise<Source> {
    const parsed = parseReference(reference);
    const handle = formatHandle({ reference: parsed, access, sessionIDs, subject: "image" });
    const hosts = await hostsFor(this.#parts.table, parsed.domain, access);
    return { reference: parsed, hosts, handle, sessionIDs };
  }

  /**
   * Where the layer behind the labels of a snapshot is served: images whose sessions are alive first, because their
   * credentials are, and in the order of the labels otherwise.
   */
  async layer(
    labels: Readonly<Record<string, string>>,
    access: Access,
    signal: AbortSignal,
  ): Promise<{ readonly sources: readonly Source[]; readonly skipped: readonly Skipped[] }> {
    const { candidates, skipped } = parseLabels(labels);
    const live = await this.#live(candidates, signal);
    const rank = ({ sessionIDs }: Candidate) => (sessionIDs.some((id) => live.has(id)) ? 0 : 1);
    const sorted = candidates.toSorted((a, b) => rank(a) - rank(b));
    const sources = await Promise.all(sorted.map((candidate) => this.#layerSource(candidate, access)));
    this.#parts.log.debug(
      { references: sources.map(({ reference }) => formatReference(reference)), skipped: skipped.length },
      "labels resolved",
    );
    return { sources, skipped };
  }

  async #layerSource(layer: Candidate, access: Access): Promise<Source> {
    const { reference, sessionIDs } = layer;
    const handle = formatHandle({ reference, access, sessionIDs, subject: "layer" });
    const hosts = await hostsFor(this.#parts.table, reference.domain, access);
    return { reference, layer, hosts, handle, sessionIDs };
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
