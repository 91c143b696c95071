import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createContextValues, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import type { Snapshots } from "@oci-worker/api/containerd/snapshots";
import { pino } from "pino";
import { watchClients } from "./clients.ts";

/** Only what the handlers below look at, which is nothing. */
const context = { values: createContextValues() } as HandlerContext;

/** Calls a watched service by each of `names`, and returns what was logged. */
async function linesFor(names: readonly string[]): Promise<Record<string, unknown>[]> {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: "info" }, { write: (line) => lines.push(JSON.parse(line)) });
  const handlers = { remove: async () => ({}) } as unknown as ServiceImpl<typeof Snapshots>;
  const watched = watchClients(handlers, log);
  for (const snapshotter of names) {
    assert.deepEqual(await watched.remove({ snapshotter, key: "k" } as never, context), {});
  }
  return lines;
}

describe("watchClients", () => {
  test("logs the name of the first client once", async () => {
    const lines = await linesFor(["overlayfs", "overlayfs", "overlayfs"]);
    assert.deepEqual(
      lines.map(({ level, snapshotter }) => [level, snapshotter]),
      [[30, "overlayfs"]],
    );
  });

  test("takes one without a name for somebody who only looks", async () => {
    const lines = await linesFor(["", "a", ""]);
    assert.deepEqual(
      lines.map(({ level, snapshotter }) => [level, snapshotter]),
      [[30, "a"]],
    );
  });

  test("warns of a second name, with the first", async () => {
    const [, warning, ...others] = await linesFor(["a", "b", "a", "b"]);
    assert.deepEqual([warning?.["level"], warning?.["snapshotter"], warning?.["earlier"]], [40, "b", ["a"]]);
    assert.deepEqual(others, []);
  });

  test("does not fill the log with names", async () => {
    const names = Array.from({ length: 1000 }, (_, index) => `${index}${"x".repeat(10_000)}`);
    const lines = await linesFor(names);
    assert.equal(lines.length, 16);
    assert(JSON.stringify(lines.at(-1)).length < 5000);
  });
});
