import assert from "node:assert/strict";
import { test } from "node:test";
import type { StatusUpdate } from "@oci-worker/client/status";
import { BuildProgress } from "./build-progress.ts";
import { PlainLines } from "./plain-lines.ts";
import { pullAndRun, update } from "./sample-updates.ts";

/** The lines of a build with these updates, one a second. */
function linesOf(updates: readonly StatusUpdate[], intervalMs = 1000): string[] {
  const progress = new BuildProgress();
  const plain = new PlainLines(progress);
  const lines = updates.flatMap((each, index) => {
    progress.apply(each);
    return plain.next(index * intervalMs);
  });
  progress.end();
  return [...lines, ...plain.next(updates.length * intervalMs)];
}

test("a pull and a step are told line by line, each step's end once", () => {
  const layer = `sha256:${"0123456789abcdef".repeat(4)}`;
  assert.deepEqual(linesOf(pullAndRun), [
    "#1 resolve image config for docker.io/library/busybox:latest",
    "#1 DONE 0.3s",
    "#2 docker-image://docker.io/library/busybox:latest",
    `#2 ${layer} 2.00MB / 2.00MB 0.5s done`,
    `#2 extracting ${layer} 0.1s done`,
    "#2 DONE 0.6s",
    "#3 echo hello",
    "#3 DONE 0.3s",
  ]);
});

test("a step whose result was there is CACHED, and never DONE before", () => {
  const updates = [
    update({
      vertices: [
        { digest: "exec", inputs: ["image"] },
        { digest: "image", startedAtMs: 0 },
      ],
    }),
    update({ vertices: [{ digest: "image", startedAtMs: 0, completedAtMs: 5 }] }),
    update({ vertices: [{ digest: "image", startedAtMs: 6, completedAtMs: 6, cached: true }] }),
    update({ vertices: [{ digest: "exec", inputs: ["image"], startedAtMs: 7 }] }),
    update({ vertices: [{ digest: "exec", inputs: ["image"], startedAtMs: 7, completedAtMs: 1007 }] }),
  ];
  assert.deepEqual(linesOf(updates), ["#1 image", "#1 CACHED", "#2 exec", "#2 DONE 1.0s"]);
});

test("a step that fails is an ERROR, one that is canceled is CANCELED, one that never began is not told", () => {
  const updates = [
    update({
      vertices: [{ digest: "never" }, { digest: "bad", startedAtMs: 0 }, { digest: "other", startedAtMs: 0 }],
    }),
    update({
      vertices: [
        { digest: "bad", startedAtMs: 0, completedAtMs: 1, error: "exit code: 3" },
        { digest: "other", startedAtMs: 0, completedAtMs: 1, error: "context canceled" },
      ],
    }),
  ];
  assert.deepEqual(linesOf(updates), ["#1 bad", "#2 other", "#1 ERROR: exit code: 3", "#2 CANCELED"]);
});

test("a task that takes long is told every five seconds", () => {
  const task = (current: number) =>
    update({
      vertices: [{ digest: "v", startedAtMs: 0 }],
      tasks: [{ vertex: "v", id: "layer", current, total: 100, startedAtMs: 0 }],
    });
  const updates = Array.from({ length: 12 }, (_, second) => task(second));
  const told = linesOf(updates).filter((line) => line.includes("layer"));
  assert.deepEqual(told, ["#1 layer 5B / 100B 5.0s", "#1 layer 10B / 100B 10.0s"]);
});

test("warnings are told once", () => {
  const warning = { vertex: "v", text: "take\ncare", details: [], url: "" };
  const updates = [update({ vertices: [{ digest: "v", startedAtMs: 0 }], warnings: [warning] }), update({})];
  assert.deepEqual(linesOf(updates), ["#1 v", "#1 WARNING: take care", "#1 DONE 2.0s"]);
});

test("a name cannot steer the terminal or break its line", () => {
  const updates = [
    update({
      vertices: [{ digest: "v", name: "a\x1b[31m\nb\x07\u009b2J", startedAtMs: 0, completedAtMs: 0 }],
    }),
  ];
  assert.deepEqual(linesOf(updates), ["#1 a b\ufffd", "#1 DONE 0.0s"]);
});
