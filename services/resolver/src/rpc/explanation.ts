import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Access, HostOutcome } from "@oci-worker/api/ociworker/source";
import type { Account, HostAccount } from "../ledger.ts";

const outcomes = {
  unused: HostOutcome.UNSPECIFIED,
  asked: HostOutcome.ASKED,
  served: HostOutcome.SERVED,
  failed: HostOutcome.FAILED,
} as const satisfies Record<HostAccount["outcome"], HostOutcome>;

const accesses = {
  pull: Access.PULL,
  push: Access.PUSH,
  "insecure-push": Access.PUSH_INSECURE,
} as const satisfies Record<Account["access"], Access>;

/** What became of an image, as it is told over gRPC. */
export function explanationToProto({ reference, access, resolvedAtMs, hosts }: Account) {
  return {
    reference,
    access: accesses[access],
    ...(resolvedAtMs !== undefined && { resolvedAt: timestampFromMs(resolvedAtMs) }),
    hosts: hosts.map(hostToProto),
  };
}

function hostToProto({ host, lastUsedAtMs, ...account }: HostAccount) {
  return {
    scheme: host.scheme,
    host: host.host,
    upstreamNamespace: host.upstreamNamespace ?? "",
    outcome: outcomes[account.outcome],
    failure: account.failure ?? "",
    keychain: account.keychain ?? "",
    challenge: account.challenge ?? "",
    tried: account.tried.map((each) => ({ ...each })),
    ...(lastUsedAtMs !== undefined && { lastUsedAt: timestampFromMs(lastUsedAtMs) }),
    authorizations: BigInt(account.authorizations),
  };
}
