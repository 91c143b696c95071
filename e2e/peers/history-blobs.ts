import type { Client } from "@connectrpc/connect";
import type { Control } from "@oci-worker/api/buildkit/control";

/**
 * Digests of all blobs that the worker keeps with the builds that have ended, sorted; what was still to be written is
 * written by then.
 */
export async function historyBlobs(control: Client<typeof Control>): Promise<string[]> {
  for await (const { record } of control.listenBuildHistory({ EarlyExit: true })) {
    await control.updateBuildHistory({ Ref: record?.Ref ?? "", Finalize: true });
  }
  const digests = new Set<string>();
  for await (const { record } of control.listenBuildHistory({ EarlyExit: true })) {
    for (const blob of [record?.logs, record?.externalError, record?.trace]) {
      if (blob !== undefined) {
        digests.add(blob.digest);
      }
    }
  }
  return [...digests].sort();
}
