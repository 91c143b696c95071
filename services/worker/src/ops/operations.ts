import { InvalidArgumentError, UnimplementedError } from "@oci-worker/errdefs";
import type { Vertex } from "@oci-worker/llb/definition";
import { platformFromProto } from "@oci-worker/llb/platform";
import { normalizePlatform, type Platform } from "@oci-worker/oci/platform";
import type { ImageStore } from "../image/image-store.ts";
import type { Operation } from "../solver/operation.ts";
import { ExecOperation, type ExecParts } from "./exec.ts";
import { cacheId, isCache } from "./exec-mounts.ts";
import { ImageSourceOperation, imageScheme } from "./image-source.ts";

export interface OperationParts extends ExecParts {
  readonly images: ImageStore;
  /** For an operation that does not say what it is to run on. */
  readonly defaultPlatform: Platform;
}

/**
 * What does the work of `vertex`: the one place that knows every kind of operation.
 *
 * @throws {UnimplementedError} naming a kind that this worker does not have. Clients that look at the capabilities in
 *   Ping never send one.
 */
export function operationOf(vertex: Vertex, parts: OperationParts): Operation {
  const { op, platform } = vertex.op;
  const target =
    platform === undefined ? parts.defaultPlatform : normalizePlatform(platformFromProto(platform));
  switch (op.case) {
    case "source":
      if (op.value.identifier.startsWith(imageScheme)) {
        return new ImageSourceOperation(op.value, target, parts.images);
      }
      throw new UnimplementedError(
        `Cannot use source ${JSON.stringify(op.value.identifier.slice(0, 200))}: this worker has ${imageScheme} only`,
      );
    case "exec":
      if (vertex.metadata.ignoreCache) {
        // Who wants nothing from the cache wants nothing of what earlier builds have left there either.
        for (const id of op.value.mounts.filter(isCache).map(cacheId)) {
          parts.cacheMounts.forget(id);
        }
      }
      return new ExecOperation(op.value, vertex.proxied === true, target, parts);
    case "file":
    case "build":
    case "merge":
    case "diff":
    case "passthrough":
      throw new UnimplementedError(
        `Cannot run operation of kind ${op.case}: this worker has source and exec`,
      );
    case undefined:
      throw new InvalidArgumentError("Cannot run an operation without a kind: want source or exec");
  }
}
