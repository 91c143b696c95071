import { create } from "@bufbuild/protobuf";
import { PlatformSchema, type Platform as ProtoPlatform } from "@oci-worker/api/buildkit/llb";
import type { Platform } from "@oci-worker/oci/platform";

/** A platform as ops and requests carry it. */
export function platformToProto({ os, architecture, variant = "", osVersion = "" }: Platform): ProtoPlatform {
  return create(PlatformSchema, {
    OS: os,
    Architecture: architecture,
    Variant: variant,
    OSVersion: osVersion,
  });
}

/** A platform as an op or a worker says it, not normalised. */
export function platformFromProto({ OS, Architecture, Variant, OSVersion }: ProtoPlatform): Platform {
  return {
    os: OS,
    architecture: Architecture,
    ...(Variant !== "" && { variant: Variant }),
    ...(OSVersion !== "" && { osVersion: OSVersion }),
  };
}
