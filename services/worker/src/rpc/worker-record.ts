import { create } from "@bufbuild/protobuf";
import {
  BuildkitVersionSchema,
  type WorkerRecord,
  WorkerRecordSchema,
} from "@oci-worker/api/buildkit/worker";
import { platformToProto } from "@oci-worker/llb/platform";
import type { Identity } from "../identity.ts";
import { packageName, version } from "../version.ts";

/** The worker as ListWorkers and Ping tell of it. */
export function workerRecord({ id, labels, platforms }: Identity): WorkerRecord {
  return create(WorkerRecordSchema, {
    ID: id,
    Labels: labels,
    platforms: platforms.map(platformToProto),
    BuildkitVersion: buildkitVersion,
  });
}

/** Who we say we are where BuildKit's clients ask for the daemon's version. */
export const buildkitVersion = create(BuildkitVersionSchema, { package: packageName, version });
