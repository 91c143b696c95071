import { BoundedMap } from "./bounded-map.ts";

/** For how long a refusal counts: a caller comes back at once after each, and is through before that has passed. */
const memoryMs = 30_000;

/** Refusals that are remembered. */
const maxRefusals = 10_000;

/** Identities that a registry has refused a short while ago. */
export class Refusals {
  readonly #until = new BoundedMap<string, number>(maxRefusals);
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** @param target what was refused to `identity`, such as to pull a repository from a host. */
  add(identity: string, target: string): void {
    this.#until.set(keyOf(identity, target), this.#now() + memoryMs);
  }

  has(identity: string, target: string): boolean {
    return (this.#until.get(keyOf(identity, target)) ?? 0) > this.#now();
  }
}

function keyOf(identity: string, target: string): string {
  return JSON.stringify([identity, target]);
}
