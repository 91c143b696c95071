import { Capability as CapabilityProto, type Host } from "@oci-worker/api/ociworker/source";
import type { Capability, RegistryHost } from "@oci-worker/registry/host";

const capabilities: Readonly<Partial<Record<CapabilityProto, Capability>>> = {
  [CapabilityProto.PULL]: "pull",
  [CapabilityProto.RESOLVE]: "resolve",
  [CapabilityProto.PUSH]: "push",
};

/** A host as the registry client wants it. A capability that we do not know is not used. */
export function hostFromProto(proto: Host): RegistryHost {
  const { scheme, host, path, headers, tls, upstreamNamespace } = proto;
  return {
    scheme: scheme === "http" ? "http" : "https",
    host,
    path,
    capabilities: proto.capabilities.flatMap((capability) => capabilities[capability] ?? []),
    headers: Object.fromEntries(headers.map(({ name, values }) => [name, values])),
    ...(tls && {
      tls: {
        insecureSkipVerify: tls.insecureSkipVerify,
        caFiles: tls.caFiles,
        keyPairs: tls.keyPairs.map(({ certFile, keyFile }) => ({ certFile, keyFile })),
      },
    }),
    ...(upstreamNamespace !== "" && { upstreamNamespace }),
  };
}
