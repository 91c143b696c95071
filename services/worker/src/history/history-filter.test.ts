import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { BuildRecord } from "./build-record.ts";
import { historyFilter } from "./history-filter.ts";

const nowMs = Date.parse("2026-01-02T12:00:00Z");

function record(more: Partial<BuildRecord>): BuildRecord {
  return {
    ref: "r",
    frontend: "",
    frontendAttrs: {},
    exporters: [],
    createdAtMs: nowMs - 3_600_000,
    completedAtMs: nowMs - 3_590_000,
    error: undefined,
    externalError: undefined,
    response: {},
    logs: undefined,
    result: undefined,
    trace: undefined,
    steps: { total: 0, cached: 0, completed: 0 },
    warnings: 0,
    pinned: false,
    generation: 1,
    ...more,
  };
}

function matches(filters: readonly string[], more: Partial<BuildRecord> = {}): boolean {
  return historyFilter(filters, nowMs)(record(more));
}

test("builds are found by their state, name and repository", () => {
  const failed = { error: { reason: "UNKNOWN", message: "exit code: 1" } } as const;
  const canceled = { error: { reason: "CANCELED", message: "context canceled" } } as const;
  assert(matches([]));
  assert(matches(["status==completed"]) && !matches(["status==error"]));
  assert(matches(["status==error"], failed) && matches(["status==canceled"], canceled));
  assert(matches(["status==running"], { completedAtMs: undefined }));
  assert(matches(["status==x", "ref~=^r$"]));
  assert(!matches(["status==completed,ref==x"]));
  const source = { "vcs:source": "https://a.example/r" };
  assert(matches(['repository=="https://a.example/r"'], { frontendAttrs: source }));
  const context = { context: "https://b.example/r.git#main:dir" };
  assert(matches(['repository=="https://b.example/r.git"'], { frontendAttrs: context }));
  assert(!matches(["repository"], { frontendAttrs: { context: "local" } }));
});

test("builds are found by when they were and how long they took", () => {
  assert(matches(["startedAt>2h"]) && !matches(["startedAt>30m"]));
  assert(matches(["startedAt<2026-01-02T11:30:00Z,duration>=10s"]));
  assert(matches(["completedAt<=2026-01-02T11:00:10Z"]) && !matches(["completedAt<2026-01-02T11:00:10Z"]));
  assert(!matches(["duration>10s"]) && matches(["duration>10s", "duration<=10s,status==completed"]));
  assert(!matches(["duration>0"], { completedAtMs: undefined }));
});

test("what is no filter is refused by name", () => {
  for (const [filter, message] of [
    ["startedAt>soon", /invalid time "soon", want/],
    ["startedAt>2026", /invalid time "2026"/],
    ["duration<x", /invalid duration "x", want/],
    ["status==", /failed to parse history filters status==: /],
    ["ref~=(", /failed to parse history filters ref~=\(: /],
  ] as const) {
    assert.throws(
      () => historyFilter([filter], nowMs),
      (error) => error instanceof InvalidArgumentError && message.test(error.message),
      filter,
    );
  }
});
