import { create } from "@bufbuild/protobuf";
import {
  BuildkitVersionSchema,
  type WorkerRecord,
  WorkerRecordSchema,
} from "@oci-worker/api/buildkit/worker";
import { version } from "@oci-worker/daemon/version";
import { platformToProto } from "@oci-worker/llb/platform";
import type { GcPolicy } from "../cache/gc-policy.ts";
import type { DeviceRegistry } from "../cdi/device-registry.ts";
import type { Identity } from "../identity.ts";
import { policyToProto } from "./cache.ts";

export interface RecordParts {
  readonly identity: Identity;
  readonly collector: { readonly policies: readonly GcPolicy[] };
  /** Undefined if steps have none. */
  readonly devices: DeviceRegistry | undefined;
}

/** The worker as ListWorkers and Ping tell of it. */
export async function workerRecord({ identity, collector, devices }: RecordParts): Promise<WorkerRecord> {
  const { id, labels } = identity;
  const [platforms, present] = await Promise.all([identity.platforms(), devices?.read()]);
  return create(WorkerRecordSchema, {
    ID: id,
    Labels: labels,
    platforms: platforms.map(platformToProto),
    GCPolicy: collector.policies.map(policyToProto),
    BuildkitVersion: buildkitVersion,
    CDIDevices: [...(present ?? [])].map(({ name, isAutoAllowed, annotations }) => ({
      Name: name,
      AutoAllow: isAutoAllowed,
      Annotations: { ...annotations },
    })),
  });
}

const packageName = "oci-worker";

/** Who we say we are where BuildKit's clients ask for the daemon's version. */
export const buildkitVersion = create(BuildkitVersionSchema, { package: packageName, version });
