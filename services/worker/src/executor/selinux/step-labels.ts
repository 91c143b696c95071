import { randomInt } from "node:crypto";
import { ResourceExhaustedError } from "@oci-worker/errdefs";
import { labelAt } from "./context.ts";
import type { SelinuxPolicy } from "./policy.ts";

/** The labels of one step. Disposing lets others have its categories. */
export interface StepLabels extends Disposable {
  /** Of its processes; empty for that of the worker. */
  readonly process: string;
  /** Of the file systems that are mounted for it alone. */
  readonly mount: string;
  /** Of files that others may have, too. */
  readonly shared: string;
}

/** Categories of a policy: c0 and so on. */
const categories = 1024;

/** Of file systems of steps that are not confined: no other step has these two, so none may look at them. */
const unconfinedPair = `c${categories - 2},c${categories - 1}`;

/** Gives each running step a pair of categories that no other one has, so that they cannot reach each other's files. */
export class LabelPool {
  readonly #policy: SelinuxPolicy;
  readonly #taken = new Set([unconfinedPair]);
  readonly #pick: (below: number) => number;

  /** @param pick a whole number from 0 to below its argument. */
  constructor(policy: SelinuxPolicy, pick: (below: number) => number = randomInt) {
    this.#policy = policy;
    this.#pick = pick;
  }

  /** @param isConfined a step that may do what the worker may has no label of its own, as upstream. */
  take(isConfined: boolean): StepLabels {
    const pair = isConfined ? this.#takePair() : unconfinedPair;
    const { process, file } = this.#policy;
    const [sensitivity = "s0"] = process.level.split(/[:-]/);
    const level = `${sensitivity}:${pair}`;
    return {
      process: isConfined ? labelAt(process, level) : "",
      mount: labelAt(file, level),
      shared: labelAt(file, sensitivity),
      [Symbol.dispose]: () => {
        if (isConfined) {
          this.#taken.delete(pair);
        }
      },
    };
  }

  #takePair(): string {
    // There are half a million pairs and as many steps as this machine has room for: soon one is free.
    for (let tries = 0; tries < 10_000; tries += 1) {
      const [low, high] = [this.#pick(categories), this.#pick(categories)].toSorted((a, b) => a - b);
      const pair = `c${low},c${high}`;
      if (low !== high && !this.#taken.has(pair)) {
        this.#taken.add(pair);
        return pair;
      }
    }
    throw new ResourceExhaustedError(
      `Cannot label another step: no pair of SELinux categories is free beside ${this.#taken.size} others`,
    );
  }
}
