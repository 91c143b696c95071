import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { type Control, type SolveRequest, SolveResponseSchema } from "@oci-worker/api/buildkit/control";
import { InvalidArgumentError, NotFoundError, UnimplementedError } from "@oci-worker/errdefs";
import { loadDefinition } from "@oci-worker/llb/definition";
import type { BuildRequest } from "../builds/builds.ts";
import type { Exporter, ExporterKind } from "../builds/exporter.ts";
import type { DeviceRegistry } from "../cdi/device-registry.ts";
import type { ContentStore } from "../content/store.ts";
import type { BuildHistory } from "../history/build-history.ts";
import type { BuildDescription } from "../history/build-record.ts";
import { type Identity, workerMatches } from "../identity.ts";
import { helloOf } from "../session/hello.ts";
import type { SessionManager } from "../session/session-manager.ts";
import { announceTime } from "./announce-time.ts";
import { type CacheParts, cacheService } from "./cache.ts";
import { buildError } from "./error-details.ts";
import { historyService } from "./history.ts";
import { statusResponses } from "./progress.ts";
import { refuseSourcePolicies, unheededPolicy } from "./source-policies.ts";
import { decodeProgress } from "./stored-progress.ts";
import { callerOf } from "./traces.ts";
import { buildkitVersion, workerRecord } from "./worker-record.ts";

export interface ControlParts extends CacheParts {
  readonly identity: Identity;
  readonly sessions: SessionManager;
  readonly devices: DeviceRegistry | undefined;
  readonly history: BuildHistory;
  readonly content: Pick<ContentStore, "path">;
  /** By the name that clients ask for. */
  readonly exporters: Readonly<Record<string, ExporterKind>>;
}

/** Serves moby.buildkit.v1.Control: what buildctl and docker buildx drive a build with. */
export function controlService(parts: ControlParts): Partial<ServiceImpl<typeof Control>> {
  const { builds, identity, sessions } = parts;
  return {
    ...cacheService(parts),
    ...historyService(parts.history),

    info: () => ({ buildkitVersion }),

    listWorkers: async ({ filter }) => ({
      record: workerMatches(identity, filter) ? [await workerRecord(parts)] : [],
    }),

    async solve(request, context) {
      try {
        const asked = { ...buildRequest(request, parts), caller: callerOf(context) };
        const response = await builds.run(asked, context.signal);
        return create(SolveResponseSchema, { ExporterResponse: { ...response } });
      } catch (thrown) {
        throw buildError(thrown);
      }
    },

    async *status({ Ref }, context) {
      const logs = parts.history.logsOf(Ref);
      if (logs !== undefined) {
        announceTime(context);
        yield* decodeProgress(parts.content.path(logs.digest), context.signal);
        return;
      }
      const progress = await builds.progressOf(Ref, context.signal);
      announceTime(context);
      for await (const events of progress.follow(context.signal)) {
        yield* statusResponses(events);
      }
    },

    async *session(requests, context) {
      async function* incoming() {
        for await (const { data } of requests) {
          yield data;
        }
      }
      for await (const data of sessions.attach(helloOf(context), incoming(), context.signal)) {
        yield { data };
      }
    },
  };
}

function buildRequest(request: SolveRequest, { exporters }: ControlParts): Omit<BuildRequest, "caller"> {
  const { Ref, Session, Frontend, Definition, Cache, SourcePolicy, SourcePolicySession } = request;
  if (Ref === "") {
    throw new InvalidArgumentError("Cannot build: the request has no Ref, want a name for the build");
  }
  if (Frontend !== "") {
    throw new UnimplementedError(
      `Cannot build with frontend ${JSON.stringify(Frontend)}: this worker has none, want an LLB definition`,
    );
  }
  refuseSourcePolicies(SourcePolicy === undefined ? [] : [SourcePolicy]);
  if (SourcePolicySession !== "") {
    throw unheededPolicy();
  }
  // Clients before v0.4 name a registry in a field of its own.
  const cacheExport = Cache?.ExportRefDeprecated ? "registry" : Cache?.Exports[0]?.Type;
  if (cacheExport !== undefined) {
    throw new UnimplementedError(`unknown cache exporter: ${JSON.stringify(cacheExport)}`);
  }
  const graph =
    Definition === undefined || Definition.def.length === 0 ? undefined : loadDefinition(Definition);
  return {
    ref: Ref,
    sessionID: Session,
    graph,
    entitlements: request.Entitlements,
    proxyNetwork: request.ProxyNetwork,
    exporter: exporterOf(request, exporters),
    description: request.Internal ? undefined : descriptionOf(request),
  };
}

function descriptionOf(request: SolveRequest): BuildDescription {
  return {
    ref: request.Ref,
    frontend: request.Frontend,
    frontendAttrs: request.FrontendAttrs,
    exporters: exportersAskedFor(request).map(({ Type, Attrs }) => ({ type: Type, attrs: Attrs })),
  };
}

/** Clients of today fill in both the old fields and the list. */
function exportersAskedFor({ Exporters, ExporterDeprecated, ExporterAttrsDeprecated }: SolveRequest) {
  return Exporters.length === 0 && ExporterDeprecated !== ""
    ? [{ Type: ExporterDeprecated, Attrs: ExporterAttrsDeprecated }]
    : Exporters;
}

/** The one exporter that is asked for. */
function exporterOf(
  request: SolveRequest,
  exporters: Readonly<Record<string, ExporterKind>>,
): Exporter | undefined {
  const [wanted, ...others] = exportersAskedFor(request);
  if (wanted === undefined) {
    return undefined;
  }
  if (others.length > 0) {
    const types = [wanted, ...others].map(({ Type }) => Type);
    throw new UnimplementedError(
      `Cannot export to ${types.join(" and ")}: this worker exports a result once`,
    );
  }
  const kind = Object.hasOwn(exporters, wanted.Type) ? exporters[wanted.Type] : undefined;
  if (kind === undefined) {
    throw new NotFoundError(`exporter ${JSON.stringify(wanted.Type)} could not be found`);
  }
  return kind(wanted.Attrs);
}
