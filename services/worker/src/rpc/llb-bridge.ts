import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Definition } from "@oci-worker/api/buildkit/llb";
import type { LLBBridge, Result } from "@oci-worker/api/buildkit/llb-bridge";
import { InvalidArgumentError, UnimplementedError } from "@oci-worker/errdefs";
import { errorOf } from "@oci-worker/errdefs/connect";
import { metadataValues } from "@oci-worker/grpc/call";
import { loadDefinition } from "@oci-worker/llb/definition";
import { platformFromProto } from "@oci-worker/llb/platform";
import { normalizePlatform, type Platform } from "@oci-worker/oci/platform";
import { parseReference } from "@oci-worker/oci/reference";
import type { Builds } from "../builds/builds.ts";
import type { BuildContainers } from "../containers/build-containers.ts";
import type { ImageStore } from "../image/image-store.ts";
import type { RefStore } from "../refs/ref-store.ts";
import { TreeView } from "../refs/tree-view.ts";
import { frontendCapabilities, llbCapabilities } from "./capabilities.ts";
import { buildError } from "./error-details.ts";
import { execProcess } from "./exec-process.ts";
import { newContainer } from "./new-container.ts";
import { refuseSourcePolicies } from "./source-policies.ts";
import { warningOf } from "./warnings.ts";
import { type RecordParts, workerRecord } from "./worker-record.ts";

export interface BridgeParts extends RecordParts {
  readonly builds: Builds;
  readonly containers: BuildContainers;
  readonly images: ImageStore;
  readonly refs: RefStore;
  readonly defaultPlatform: Platform;
}

/** The header that says which build a call belongs to. */
const buildHeader = "buildkit-controlapi-buildid";

/**
 * Serves moby.buildkit.v1.frontend.LLBBridge: how the client of a build that came without a definition drives it.
 * buildctl has built nothing otherwise since v0.11.
 */
export function llbBridgeService(parts: BridgeParts): Partial<ServiceImpl<typeof LLBBridge>> {
  const { builds, containers, defaultPlatform, images, refs } = parts;
  /** Looks into a result of the build, which is made if it is not there yet. */
  const look = async <T>(id: string, context: HandlerContext, use: (view: TreeView) => Promise<T> | T) => {
    try {
      const ref = await builds.evaluate(buildOf(context), id, context.signal);
      await using mounted = await refs.mount(ref, context.signal);
      using view = new TreeView(mounted.path);
      return await use(view);
    } catch (thrown) {
      throw buildError(thrown);
    }
  };
  return {
    ping: async () => ({
      FrontendAPICaps: frontendCapabilities,
      LLBCaps: llbCapabilities,
      Workers: [await workerRecord(parts)],
    }),

    async solve(request, context) {
      if (request.Frontend !== "") {
        throw new UnimplementedError(
          `Cannot solve with frontend ${JSON.stringify(request.Frontend)}: this worker has none, want a definition`,
        );
      }
      refuseSourcePolicies(request.SourcePolicies);
      const { Definition: definition } = request;
      const ref = buildOf(context);
      if (definition === undefined || definition.def.length === 0) {
        return resultResponse("", undefined, request.allowResultArrayRef);
      }
      try {
        const graph = loadDefinition(definition);
        const id = await builds.solve(ref, graph, request.Evaluate, context.signal);
        if (request.Final) {
          await builds.succeed(ref, id, {}, context.signal);
        }
        return request.allowResultReturn
          ? resultResponse(id, definition, request.allowResultArrayRef)
          : { ref: id };
      } catch (thrown) {
        throw buildError(thrown);
      }
    },

    async evaluate({ Ref }, context) {
      try {
        await builds.evaluate(buildOf(context), Ref, context.signal);
        return {};
      } catch (thrown) {
        throw buildError(thrown);
      }
    },

    async return({ result, error }, context) {
      const ref = buildOf(context);
      if (error === undefined) {
        await builds.succeed(ref, idOf(result), result?.metadata ?? {}, context.signal);
      } else {
        await builds.fail(ref, errorOf(error), context.signal);
      }
      return {};
    },

    async resolveImageConfig({ Ref, LogName, Platform: wanted, SourcePolicies }, context) {
      refuseSourcePolicies(SourcePolicies);
      const reference = parseReference(Ref);
      const platform = wanted === undefined ? defaultPlatform : normalizePlatform(platformFromProto(wanted));
      const job = await builds.jobOf(buildOf(context), context.signal);
      const signal = AbortSignal.any([context.signal, job.signal]);
      using lease = images.lease();
      const { image } = await builds.report(job, LogName || `resolve image config for ${Ref}`, (report) =>
        images.resolve(reference, platform, { report, signal, lease, sessionIDs: () => job.sessionIDs }),
      );
      return { Digest: image.digest, Config: image.configBytes, Ref };
    },

    async warn(request, context) {
      const warning = warningOf(request);
      const job = await builds.jobOf(buildOf(context), context.signal);
      job.progress.append({ kind: "warning", warning });
      return {};
    },

    inputs: () => ({ Definitions: {} }),

    async readFile({ Ref, FilePath, Range }, context) {
      const range = Range && { offset: Number(Range.Offset), length: Number(Range.Length) };
      const Data = await look(Ref, context, (view) => view.readFile(FilePath, range));
      return { Data };
    },

    async readDir({ Ref, DirPath, IncludePattern }, context) {
      const entries = await look(Ref, context, (view) => view.readDirectory(DirPath, IncludePattern));
      return { entries };
    },

    async statFile({ Ref, Path }, context) {
      const stat = await look(Ref, context, (view) => view.stat(Path));
      return { stat };
    },

    async newContainer(request, context) {
      try {
        await containers.open(buildOf(context), newContainer(request), context.signal);
        return {};
      } catch (thrown) {
        throw buildError(thrown);
      }
    },

    async releaseContainer({ ContainerID }, context) {
      await containers.release(buildOf(context), ContainerID, context.signal);
      return {};
    },

    execProcess(requests, context) {
      const ref = buildOf(context);
      return execProcess(
        requests,
        (process) => containers.prepare(ref, process, context.signal),
        context.signal,
      );
    },
  };
}

function buildOf(context: HandlerContext): string {
  const [ref = ""] = metadataValues(context, buildHeader);
  if (ref === "") {
    throw new InvalidArgumentError(`no buildid found in context, want header ${buildHeader}`);
  }
  return ref;
}

function resultResponse(id: string, def: Definition | undefined, asMessage: boolean) {
  const ref = asMessage
    ? ({ case: "ref", value: { id, ...(def && { def }) } } as const)
    : ({ case: "refDeprecated", value: id } as const);
  return { result: { result: ref } };
}

/** The id of the one result that the client returns; empty for none. */
function idOf(result: Result | undefined): string {
  const value = result?.result;
  switch (value?.case) {
    case undefined:
      return "";
    case "refDeprecated":
      return value.value;
    case "ref":
      return value.value.id;
    case "refsDeprecated":
      return onlyOf(Object.values(value.value.refs));
    case "refs":
      return onlyOf(Object.values(value.value.refs).map(({ id }) => id));
  }
}

function onlyOf(ids: readonly string[]): string {
  const [id = "", ...others] = ids;
  if (others.length > 0) {
    throw new UnimplementedError(
      `Cannot return ${ids.length} results: this worker takes one, for one platform`,
    );
  }
  return id;
}
