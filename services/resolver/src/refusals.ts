import type { PermissionDeniedError } from "@oci-worker/errdefs";
import { BoundedMap } from "./bounded-map.ts";

/** For how long a refusal counts: a caller comes back at once after each, and is through before that has passed. */
const registryMemoryMs = 30_000;

/** For how long one of a token server counts: not for each read of a layer, and no longer than a person needs to retry. */
const tokenServerMemoryMs = 5000;

/** Refusals that are remembered. */
const maxRefusals = 10_000;

/**
 * Identities that a registry, or its token server, has refused a short while ago. A password that is wrong is not shown
 * for each read of a layer: accounts get locked by that.
 */
export class Refusals {
  readonly #refusals = new BoundedMap<
    string,
    { readonly untilMs: number; readonly why: PermissionDeniedError }
  >(maxRefusals);
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /**
   * @param target what was refused to `identity`, such as to pull a repository from a host.
   * @param by who has refused it.
   */
  add(identity: string, target: string, why: PermissionDeniedError, by: "registry" | "token server"): void {
    const memoryMs = by === "registry" ? registryMemoryMs : tokenServerMemoryMs;
    this.#refusals.set(keyOf(identity, target), { untilMs: this.#now() + memoryMs, why });
  }

  /** Why `identity` was refused; undefined if it was not, or long ago. */
  get(identity: string, target: string): PermissionDeniedError | undefined {
    const refusal = this.#refusals.get(keyOf(identity, target));
    return refusal !== undefined && refusal.untilMs > this.#now() ? refusal.why : undefined;
  }
}

function keyOf(identity: string, target: string): string {
  return JSON.stringify([identity, target]);
}
