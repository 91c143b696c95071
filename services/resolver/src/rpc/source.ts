import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  Access as AccessProto,
  Capability as CapabilityProto,
  SkipReason as SkipReasonProto,
  type SourceService,
} from "@oci-worker/api/ociworker/source";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { formatReference } from "@oci-worker/oci/reference";
import type { Capability, RegistryHost, TlsSettings } from "@oci-worker/registry/host";
import type { Authorizer } from "../authorize.ts";
import type { Explainer } from "../explain.ts";
import type { Access } from "../handle.ts";
import type { LayerName, SkipReason } from "../labels.ts";
import type { Resolver, Source } from "../resolve.ts";
import { explanationToProto } from "./explanation.ts";

/** What answers the calls of {@link sourceService}. */
export interface SourceServiceParts {
  readonly resolver: Resolver;
  readonly authorizer: Authorizer;
  readonly explainer: Explainer;
}

/** Serves ociworker.source.v1.SourceService. */
export function sourceService({
  resolver,
  authorizer,
  explainer,
}: SourceServiceParts): ServiceImpl<typeof SourceService> {
  return {
    async resolveSources({ query, access }, { signal }) {
      switch (query.case) {
        case "labels": {
          const { sources, skipped } = await resolver.layer(query.value.labels, accessOf(access), signal);
          explainer.resolved(sources, accessOf(access));
          return {
            sources: sources.map(sourceToProto),
            skipped: skipped.map((skip) => ({ ...skip, reason: skipReasons[skip.reason] })),
          };
        }
        case "reference": {
          const { reference, sessionIds } = query.value;
          const source = await resolver.image(reference, sessionIds, accessOf(access));
          explainer.resolved([source], accessOf(access));
          return { sources: [sourceToProto(source)] };
        }
        default:
          throw new InvalidArgumentError("Cannot resolve sources: want labels or a reference");
      }
    },

    async authorize({ handle, host, challenges, refusedAuthorizationSha256, extraScopes }, { signal }) {
      const request = { handle, host, challenges, refusedSha256: refusedAuthorizationSha256, extraScopes };
      const grant = await authorizer.authorize(request, signal);
      if (grant === undefined) {
        return {};
      }
      return {
        authorization: grant.value.reveal(),
        keychain: grant.keychain,
        ...(grant.renewAtMs !== undefined && { expiresAt: timestampFromMs(grant.renewAtMs) }),
      };
    },

    async reportOutcome({ handle, host, failure }) {
      await explainer.reported(handle, host, failure);
      return {};
    },

    explainSources: ({ reference }) => ({
      explanations: explainer.explain(reference).map(explanationToProto),
    }),
  };
}

const skipReasons = {
  "no-reference": SkipReasonProto.NO_REFERENCE,
  "bad-reference": SkipReasonProto.BAD_REFERENCE,
  "no-digest": SkipReasonProto.NO_DIGEST,
  "bad-digest": SkipReasonProto.BAD_DIGEST,
  "bad-layers": SkipReasonProto.BAD_LAYERS,
  "bad-toc-digest": SkipReasonProto.BAD_TOC_DIGEST,
  "bad-url": SkipReasonProto.BAD_URL,
  "bad-hosts": SkipReasonProto.BAD_HOSTS,
} as const satisfies Record<SkipReason, SkipReasonProto>;

const capabilities = {
  pull: CapabilityProto.PULL,
  resolve: CapabilityProto.RESOLVE,
  push: CapabilityProto.PUSH,
} as const satisfies Record<Capability, CapabilityProto>;

function accessOf(access: AccessProto): Access {
  switch (access) {
    case AccessProto.UNSPECIFIED:
    case AccessProto.PULL:
      return "pull";
    case AccessProto.PUSH:
      return "push";
    case AccessProto.PUSH_INSECURE:
      return "insecure-push";
    default:
      throw new InvalidArgumentError(
        `Cannot resolve sources: access is ${access}, want pull, push or insecure push`,
      );
  }
}

function sourceToProto({ reference, layer, hosts, handle, sessionIDs }: Source) {
  return {
    id: layer?.id ?? "",
    reference: formatReference(reference),
    repository: reference.repository,
    ...(layer && { target: layerToProto(layer.target) }),
    layers: layer?.layers.map(layerToProto) ?? [],
    tocDigest: layer?.tocDigest ?? "",
    hosts: hosts.map(hostToProto),
    handle,
    sessionIds: [...sessionIDs],
  };
}

function layerToProto({ digest, urls }: LayerName) {
  return { digest, urls: [...urls] };
}

function hostToProto(host: RegistryHost) {
  return {
    scheme: host.scheme,
    host: host.host,
    path: host.path,
    capabilities: host.capabilities.map((capability) => capabilities[capability]),
    headers: Object.entries(host.headers ?? {}).map(([name, values]) => ({ name, values: [...values] })),
    ...(host.tls && { tls: tlsToProto(host.tls) }),
    upstreamNamespace: host.upstreamNamespace ?? "",
  };
}

function tlsToProto({ insecureSkipVerify, caFiles, keyPairs }: TlsSettings) {
  return {
    insecureSkipVerify: insecureSkipVerify ?? false,
    caFiles: [...(caFiles ?? [])],
    keyPairs: (keyPairs ?? []).map((pair) => ({ ...pair })),
  };
}
