import { formatReference, parseReference } from "@oci-worker/oci/reference";
import { type Access, parseHandle } from "./handle.ts";
import type { RegistryHosts } from "./hosts/hosts.ts";
import { hostOf } from "./inquiry.ts";
import type { Account, Ledger } from "./ledger.ts";
import type { Source } from "./resolve.ts";

/** Takes down what callers are told and tell, and says afterwards what became of an image. */
export class Explainer {
  readonly #hosts: RegistryHosts;
  readonly #ledger: Ledger;

  constructor(hosts: RegistryHosts, ledger: Ledger) {
    this.#hosts = hosts;
    this.#ledger = ledger;
  }

  /** Somebody was told of these sources. */
  resolved(sources: readonly Source[], access: Access): void {
    for (const { reference, hosts } of sources) {
      this.#ledger.resolved({ reference: formatReference(reference), access }, hosts);
    }
  }

  /**
   * Somebody tells how a host did.
   *
   * @param failure why it was of no use; empty if it served.
   * @throws {InvalidArgumentError} for a handle or host that makes no sense.
   */
  async reported(handle: string, host: string, failure: string): Promise<void> {
    const grantee = parseHandle(handle);
    const wish = { reference: formatReference(grantee.reference), access: grantee.access };
    this.#ledger.reported(wish, await hostOf(this.#hosts, grantee, host), failure || undefined);
  }

  /**
   * What became of the image `reference`, or of all if that is empty.
   *
   * @throws {InvalidArgumentError} if it does not parse.
   */
  explain(reference: string): Account[] {
    return this.#ledger.explain(reference === "" ? undefined : formatReference(parseReference(reference)));
  }
}
