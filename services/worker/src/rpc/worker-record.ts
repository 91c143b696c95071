import { create } from "@bufbuild/protobuf";
import {
  BuildkitVersionSchema,
  type WorkerRecord,
  WorkerRecordSchema,
} from "@oci-worker/api/buildkit/worker";
import { version } from "@oci-worker/daemon/version";
import { platformToProto } from "@oci-worker/llb/platform";
import type { GcPolicy } from "../cache/gc-policy.ts";
import type { Identity } from "../identity.ts";
import { policyToProto } from "./cache.ts";

/** The worker as ListWorkers and Ping tell of it. */
export async function workerRecord(identity: Identity, policies: readonly GcPolicy[]): Promise<WorkerRecord> {
  const { id, labels } = identity;
  const platforms = await identity.platforms();
  return create(WorkerRecordSchema, {
    ID: id,
    Labels: labels,
    platforms: platforms.map(platformToProto),
    GCPolicy: policies.map(policyToProto),
    BuildkitVersion: buildkitVersion,
  });
}

const packageName = "oci-worker";

/** Who we say we are where BuildKit's clients ask for the daemon's version. */
export const buildkitVersion = create(BuildkitVersionSchema, { package: packageName, version });
