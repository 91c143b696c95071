import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  CommitSnapshotRequestSchema,
  ListSnapshotsRequestSchema,
  PrepareSnapshotRequestSchema,
  UpdateSnapshotRequestSchema,
} from "@oci-worker/api/containerd/snapshots";
import { HealthCheckRequestSchema } from "@oci-worker/api/grpc/health";
import { describeRequest } from "./describe-request.ts";

const labels = { "containerd.io/snapshot/remote/stargz.session.1.x": "session id" };

describe("describeRequest", () => {
  test("tells which client asks for what, and no label", () => {
    const prepare = { snapshotter: "ours", key: "k", parent: "p", labels };
    assert.deepEqual(describeRequest(create(PrepareSnapshotRequestSchema, prepare)), {
      client: "ours",
      key: "k",
      parent: "p",
    });
    const commit = { snapshotter: "ours", key: "k", name: "n", labels };
    assert.deepEqual(describeRequest(create(CommitSnapshotRequestSchema, commit)), {
      client: "ours",
      key: "k",
      name: "n",
    });
    const update = { snapshotter: "ours", info: { name: "n", labels } };
    assert.deepEqual(describeRequest(create(UpdateSnapshotRequestSchema, update)), {
      client: "ours",
      key: "n",
    });
    const list = { filters: ["kind==active", "parent==x"] };
    assert.deepEqual(describeRequest(create(ListSnapshotsRequestSchema, list)), {
      filters: "kind==active | parent==x",
    });
    assert.deepEqual(describeRequest(create(HealthCheckRequestSchema, {})), {});
  });

  test("shows no more of a long key than a line bears", () => {
    const request = create(PrepareSnapshotRequestSchema, { key: "x".repeat(40_000) });
    assert(JSON.stringify(describeRequest(request)).length < 300);
  });
});
