import { timestampDate } from "@bufbuild/protobuf/wkt";
import { createClient, type Transport } from "@connectrpc/connect";
import {
  Access,
  HostOutcome,
  type HostExplanation as HostProto,
  SourceService,
} from "@oci-worker/api/ociworker/source";
import { fromConnectError } from "@oci-worker/errdefs/connect";

/** What became of one image. */
export interface Explanation {
  /** The image with everything filled in. */
  readonly reference: string;
  readonly access: "pull" | "push";
  /** When somebody last asked where it is. */
  readonly resolvedAt?: Date;
  /** In the order in which they are tried. */
  readonly hosts: readonly HostExplanation[];
}

/** What became of one image at one host. */
export interface HostExplanation {
  /** Such as `https://registry.example`. */
  readonly url: string;
  /** The registry that it stands in for. */
  readonly mirrorOf?: string;
  /** `asked`: whoever was about to ask it has not told what came of it. */
  readonly outcome: "not asked" | "asked" | "served" | "failed";
  /** Why it was of no use. */
  readonly failure?: string;
  /** What opened it. */
  readonly keychain?: string;
  /** What it wanted to see: `basic` or `bearer`. */
  readonly challenge?: string;
  /** Keychains that were of no use, and why. */
  readonly tried: readonly { readonly keychain: string; readonly reason: string }[];
  readonly lastUsedAt?: Date;
  /** How often it was opened. */
  readonly authorizations: number;
}

const outcomes: Readonly<Record<HostOutcome, HostExplanation["outcome"]>> = {
  [HostOutcome.UNSPECIFIED]: "not asked",
  [HostOutcome.ASKED]: "asked",
  [HostOutcome.SERVED]: "served",
  [HostOutcome.FAILED]: "failed",
};

/**
 * Asks the resolver at the other end of `transport` what became of `reference`, or of all images that were asked for
 * lately if it is undefined. Those that were asked for last come first.
 *
 * @throws {InvalidArgumentError} if the reference does not parse, UnavailableError if there is no resolver.
 */
export async function explainSources(transport: Transport, reference?: string): Promise<Explanation[]> {
  try {
    const client = createClient(SourceService, transport);
    const { explanations } = await client.explainSources({ reference: reference ?? "" });
    return explanations.map(({ reference: name, access, resolvedAt, hosts }) => ({
      reference: name,
      access: access === Access.PUSH || access === Access.PUSH_INSECURE ? "push" : "pull",
      ...(resolvedAt && { resolvedAt: timestampDate(resolvedAt) }),
      hosts: hosts.map(hostFromProto),
    }));
  } catch (thrown) {
    throw fromConnectError(thrown);
  }
}

function hostFromProto(proto: HostProto): HostExplanation {
  const { upstreamNamespace: mirrorOf, failure, keychain, challenge, lastUsedAt } = proto;
  return {
    url: `${proto.scheme}://${proto.host}`,
    ...(mirrorOf !== "" && { mirrorOf }),
    outcome: outcomes[proto.outcome] ?? "not asked",
    ...(failure !== "" && { failure }),
    ...(keychain !== "" && { keychain }),
    ...(challenge !== "" && { challenge }),
    tried: proto.tried.map((each) => ({ keychain: each.keychain, reason: each.reason })),
    ...(lastUsedAt && { lastUsedAt: timestampDate(lastUsedAt) }),
    authorizations: Number(proto.authorizations),
  };
}
