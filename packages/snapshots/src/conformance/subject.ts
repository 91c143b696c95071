import assert from "node:assert/strict";
import type { Mount } from "@oci-worker/mounts/mount";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import type { Labels } from "../labels.ts";
import type { Info, Snapshotter } from "../snapshotter.ts";

/** In what correct snapshotters differ. */
export interface Traits {
  /** Whether a snapshot that was prepared on nothing can be put on a parent when it is committed. */
  readonly canRebase: boolean;
  /** Whether a snapshot holds the whole tree, so that its usage does too, and not what differs from its parent. */
  readonly holdsWholeTrees: boolean;
}

/** What a check examines: a snapshotter without any snapshot, and what it needs around it. */
export interface Subject {
  readonly snapshotter: Snapshotter;
  readonly traits: Traits;
  /** An empty directory to mount in. */
  readonly workDir: string;
  /** Stops the snapshotter and opens it again on the same root. What was got of the old one is of no use then. */
  readonly reopen: () => Promise<Snapshotter>;
}

/** Shows that a snapshotter keeps one promise, or throws. */
export type Check = (subject: Subject) => Promise<void>;

/** Runs `use` with the directory at which `mounts` are mounted. */
export async function mounted(
  { workDir }: Subject,
  mounts: readonly Mount[],
  use: (path: string) => Promise<void>,
): Promise<void> {
  await using directory = await mountTemporarily(mounts, workDir);
  await use(directory.path);
}

/** Commits the snapshot `name` on `parent`, with what `change` does to the mounted tree. */
export async function commitLayer(
  subject: Subject,
  name: string,
  parent?: string,
  change: (path: string) => Promise<void> = async () => undefined,
  labels: Labels = {},
): Promise<void> {
  const { snapshotter } = subject;
  const key = `filling ${name}`;
  const mounts = await snapshotter.prepare(key, parent, {});
  await mounted(subject, mounts, change);
  await snapshotter.commit(name, key, labels);
}

/** Runs `use` with a view of the committed snapshot `name`. */
export async function viewed(
  subject: Subject,
  name: string,
  use: (path: string) => Promise<void>,
): Promise<void> {
  const { snapshotter } = subject;
  const key = `viewing ${name}`;
  await mounted(subject, await snapshotter.view(key, name, {}), use);
  await snapshotter.remove(key);
}

/** Every snapshot there is, by its name. */
export async function listed(snapshotter: Snapshotter, ...filters: string[]): Promise<Map<string, Info>> {
  const infos = await Array.fromAsync(snapshotter.walk(filters));
  const byName = new Map(infos.map((info) => [info.name, info]));
  assert.equal(byName.size, infos.length, "no snapshot is listed twice");
  return byName;
}

/** The error classes that clients branch on; a check names one and not a code. */
type ErrorClass = abstract new (...args: never[]) => Error;

/** Asserts that `call` fails with `errorClass`, and with a text that says what it was about. */
export async function fails(call: Promise<unknown>, errorClass: ErrorClass, about: string): Promise<void> {
  await assert.rejects(call, (error) => {
    assert(error instanceof errorClass, `want ${errorClass.name}, got ${String(error)}`);
    assert(error.message.includes(about), `want a text with ${JSON.stringify(about)}, got ${error.message}`);
    return true;
  });
}
