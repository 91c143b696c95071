import assert from "node:assert/strict";
import type { Client } from "@connectrpc/connect";
import type { Control } from "@oci-worker/api/buildkit/control";
import type { Definition } from "@oci-worker/api/buildkit/llb";
import { definitionOf, image, run, type Tree } from "@oci-worker/llb/build";
import type { Reference } from "@oci-worker/oci/reference";
import type { Random } from "./random.ts";

/** One action in so many hundred removes all that is not in use, so that images are pulled anew. */
const percentPrunes = 25;

/** So many of the results that must still be there are looked at after a kill: the last ones. */
const checkedResults = 4;

/** Knows which results must be in the worker's cache: those that it has acknowledged and nobody has removed since. */
export class ResultKeeper {
  #definitions: Definition[] = [];
  #prunesBegun = 0;
  #prunesRunning = 0;
  #checks = 0;

  /** Does `build`, and notes its result unless some prune meanwhile may have removed it. */
  async building(definition: Definition, build: () => Promise<unknown>): Promise<void> {
    const begun = this.#prunesBegun;
    await build();
    if (this.#prunesRunning === 0 && this.#prunesBegun === begun) {
      this.#definitions.push(definition);
    }
  }

  async pruning(prune: () => Promise<unknown>): Promise<void> {
    this.#prunesBegun += 1;
    this.#prunesRunning += 1;
    this.#definitions = [];
    try {
      await prune();
    } finally {
      this.#prunesRunning -= 1;
    }
  }

  /** Builds the last of them again, and checks that all of it comes from the cache. */
  async check(control: Client<typeof Control>): Promise<void> {
    for (const Definition of this.#definitions.slice(-checkedResults)) {
      this.#checks += 1;
      const Ref = `check-${this.#checks}`;
      await control.solve({ Ref, Definition });
      for await (const { record } of control.listenBuildHistory({ EarlyExit: true, Ref })) {
        assert.equal(record?.numCachedSteps, record?.numTotalSteps, "a result that was acknowledged is gone");
      }
    }
  }
}

export interface BuildClientOptions {
  /** Part of the names of its builds. */
  readonly name: string;
  readonly images: readonly Reference[];
  readonly random: Random;
  readonly results: ResultKeeper;
}

/** A client that builds and prunes until the worker dies. */
export class BuildClient {
  readonly #options: BuildClientOptions;
  /** Names of the builds that the worker has acknowledged. */
  readonly #acknowledged = new Set<string>();
  #builds = 0;

  constructor(options: BuildClientOptions) {
    this.#options = options;
  }

  /** Works until `killed`. Fails if anything goes wrong before. */
  async work(control: Client<typeof Control>, killed: AbortSignal): Promise<void> {
    const { random, results } = this.#options;
    while (!killed.aborted) {
      try {
        if (random.chance(percentPrunes)) {
          await results.pruning(() => Array.fromAsync(control.prune({})));
        } else {
          await this.#build(control);
        }
      } catch (error) {
        if (!killed.aborted) {
          throw error;
        }
      }
    }
  }

  /** Checks that every build that was acknowledged is remembered. */
  async check(control: Client<typeof Control>): Promise<void> {
    const known = new Set<string | undefined>();
    for await (const { record } of control.listenBuildHistory({ EarlyExit: true })) {
      known.add(record?.Ref);
    }
    const forgotten = [...this.#acknowledged].filter((ref) => !known.has(ref));
    assert.deepEqual(forgotten, [], "builds that were acknowledged are not remembered");
  }

  async #build(control: Client<typeof Control>): Promise<void> {
    this.#builds += 1;
    const Ref = `${this.#options.name}-${this.#builds}`;
    const Definition = definitionOf(this.#tree());
    await this.#options.results.building(Definition, () => control.solve({ Ref, Definition }));
    this.#acknowledged.add(Ref);
  }

  /** One to three steps on an image: some that were made before, some new, all with one cache mount. */
  #tree(): Tree {
    const { images, name, random } = this.#options;
    const reference = random.pick(images);
    assert(reference !== undefined);
    let tree = image(reference);
    for (let depth = random.below(3); depth >= 0; depth -= 1) {
      const file = random.chance(50) ? "shared" : `${name}-${random.below(1000)}`;
      const script = `head -c 50000 /dev/zero > /${file}; sleep 0.${random.below(3)}; echo x >> /cache/x`;
      const mounts = [{ type: "cache", dest: "/cache", id: "torture", sharing: "locked" }] as const;
      tree = run({ root: tree, args: ["sh", "-c", script], env: ["PATH=/bin"], mounts }).root;
    }
    return tree;
  }
}
