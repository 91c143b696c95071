import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import fc from "fast-check";
import { BuildProgress } from "./build-progress.ts";
import { pullAndRun, update } from "./sample-updates.ts";
import { paintFor, symbolsFor } from "./style.ts";
import { textWidth } from "./text-width.ts";
import { type Canvas, treeLines } from "./tree-lines.ts";

const canvas: Canvas = {
  width: 90,
  height: 20,
  nowMs: 800,
  symbols: symbolsFor({ LANG: "C.UTF-8" }),
  paint: (_role, text) => text,
};

function after(updates: number): BuildProgress {
  const progress = new BuildProgress();
  for (const each of pullAndRun.slice(0, updates)) {
    progress.apply(each);
  }
  return progress;
}

const draw = (updates: number, changes: Partial<Canvas> = {}) =>
  treeLines("running busybox", after(updates), { ...canvas, ...changes }).map((line) => line.trimEnd());

test("a step that runs has a line for each thing that it does: bar, amount, rate and time", () => {
  assert.deepEqual(draw(5), [
    "running busybox 1/2 0.8s",
    " ✔ resolve image config for docker.io/library/busybox:latest                          0.3s",
    " ⠇ docker.io/library/busybox:latest                                                   0.4s",
    "   └ sha256:0123456789ab    ━━━━━━────────────────── 500.0kB / 2.00MB     1.25MB/s    0.4s",
  ]);
});

test("what is done of a step that still runs is not shown any more", () => {
  assert.deepEqual(draw(6, { nowMs: 1000 }).slice(2), [
    " ⠋ docker.io/library/busybox:latest                                                   0.6s",
    "   └ extracting sha256:0123456789ab                                                   0.1s",
  ]);
});

test("in the end each step has one line", () => {
  const lines = draw(9, { nowMs: 99_000 });
  assert.deepEqual(
    lines.map((line) => line.replace(/\s{2,}/g, "  ")),
    [
      "running busybox 3/3 1.3s",
      " ✔ resolve image config for docker.io/library/busybox:latest  0.3s",
      " ✔ docker.io/library/busybox:latest  0.6s",
      " ✔ echo hello  0.3s",
    ],
  );
});

test("a failed step says why, a canceled one that it was, a cached one that it was", () => {
  const progress = new BuildProgress();
  progress.apply(
    update({
      vertices: [
        { digest: "bad", startedAtMs: 0, completedAtMs: 1, error: "exit code: 3" },
        { digest: "stopped", startedAtMs: 0, completedAtMs: 1, error: "context canceled" },
        { digest: "hit", cached: true },
      ],
    }),
  );
  const lines = treeLines("t", progress, { ...canvas, width: 40 });
  assert.deepEqual(lines.slice(1), [
    " ✘ bad                             ERROR",
    "   exit code: 3",
    " – stopped                      CANCELED",
    " ✔ hit                            CACHED",
  ]);
});

describe("a tree that does not fit", () => {
  const progress = new BuildProgress();
  for (let index = 0; index < 30; index += 1) {
    progress.apply(update({ vertices: [{ digest: `done${index}`, startedAtMs: 0, completedAtMs: 1 }] }));
  }
  for (let index = 0; index < 12; index += 1) {
    progress.apply(
      update({
        vertices: [{ digest: "busy", startedAtMs: 0 }],
        tasks: [{ vertex: "busy", id: `task${index}`, startedAtMs: 0 }],
      }),
    );
  }

  test("counts the steps that are done, the first ones first, and the tasks that are many", () => {
    const lines = treeLines("t", progress, { ...canvas, height: 14 });
    assert.equal(lines.length, 14);
    assert.match(lines[1] ?? "", /^ {2}28 more done$/);
    assert.match(lines[3] ?? "", /done29/);
    assert.match(lines[4] ?? "", /busy/);
    assert.match(lines.at(-1) ?? "", /4 more$/);
  });
});

test("a terminal without UTF-8 gets ASCII, one without colours none", () => {
  const symbols = symbolsFor({ LANG: "C" });
  const paint = paintFor({ NO_COLOR: "1" });
  const lines = treeLines("t", after(5), { ...canvas, symbols, paint });
  assert.match(lines.join("\n"), /^[\x20-\x7e\n]*$/);
  assert.match(lines.join("\n"), /======\.\.\./);
});

test("no line is wider than the terminal, no tree higher, whatever is in it", () => {
  const name = fc.oneof(
    fc.string({ unit: "grapheme" }),
    fc.constantFrom("日本語のステップ", "😀".repeat(50), "x".repeat(300)),
  );
  const task = fc.record({
    id: name,
    current: fc.nat(2 ** 31 - 1),
    total: fc.nat(2 ** 31 - 1),
    completed: fc.boolean(),
  });
  const step = fc.record({
    name,
    tasks: fc.array(task, { maxLength: 12 }),
    error: fc.option(name),
    done: fc.boolean(),
  });
  const size = fc.record({
    width: fc.integer({ min: 1, max: 120 }),
    height: fc.integer({ min: 2, max: 30 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 10 }), name, size, (steps, title, { width, height }) => {
      const progress = new BuildProgress();
      for (const [index, { tasks, error, done, name: stepName }] of steps.entries()) {
        const digest = String(index);
        progress.apply(
          update({
            vertices: [
              {
                digest,
                name: stepName,
                startedAtMs: 0,
                completedAtMs: done ? 5 : undefined,
                error: error ?? "",
              },
            ],
            tasks: tasks.map(({ completed, ...rest }) => ({
              ...rest,
              vertex: digest,
              startedAtMs: 0,
              completedAtMs: completed ? 3 : undefined,
            })),
          }),
        );
      }
      const paint = paintFor({});
      const lines = treeLines(title, progress, { ...canvas, width, height, paint });
      assert(lines.length <= height);
      for (const line of lines) {
        assert(textWidth(stripVTControlCharacters(line)) <= width, `${width}: ${JSON.stringify(line)}`);
      }
    }),
    { numRuns: 500 },
  );
});
