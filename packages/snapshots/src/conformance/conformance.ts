import { mkdir, mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Snapshotter } from "../snapshotter.ts";
import { content } from "./content.ts";
import { description } from "./description.ts";
import { disk } from "./disk.ts";
import { lifeCycle } from "./life-cycle.ts";
import { mappedIDs } from "./mapped-ids.ts";
import type { Check, Traits } from "./subject.ts";

/** Every promise, and what shows that it is kept. */
export const promises: Readonly<Record<string, Check>> = {
  ...lifeCycle,
  ...description,
  ...disk,
  ...content,
  ...mappedIDs,
};

/** A snapshotter, with all that has to be stopped after it. */
interface Opened extends AsyncDisposable {
  readonly snapshotter: Snapshotter;
}

/**
 * Runs every promise of the {@link Snapshotter} contract as a test, each against a snapshotter on a fresh root.
 *
 * Needs root: what is promised of content is seen through real mounts.
 *
 * @param open opens the snapshotter on `root`, a directory that may not exist yet or hold what an earlier one has
 *   left. Best over the socket that it is served on, so that the way there is examined too.
 */
export function conformance(name: string, traits: Traits, open: (root: string) => Promise<Opened>): void {
  describe(`${name} keeps the Snapshotter contract`, () => {
    for (const [promise, check] of Object.entries({
      ...lifeCycle,
      ...description,
      ...disk,
      ...content,
      ...mappedIDs,
    })) {
      test(promise, async () => {
        await using directory = await mkdtempDisposable(join(tmpdir(), "conformance-"));
        const root = join(directory.path, "root");
        const workDir = join(directory.path, "work");
        await mkdir(workDir);
        let opened = await open(root);
        const reopen = async () => {
          await opened[Symbol.asyncDispose]();
          opened = await open(root);
          return opened.snapshotter;
        };
        try {
          await check({ snapshotter: opened.snapshotter, traits, workDir, reopen });
        } finally {
          await opened[Symbol.asyncDispose]();
        }
      });
    }
  });
}
