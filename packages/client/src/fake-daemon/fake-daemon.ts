import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { Control, type SolveRequest, type StatusResponseSchema } from "@oci-worker/api/buildkit/control";
import type { Definition } from "@oci-worker/api/buildkit/llb";
import {
  LLBBridge,
  type ResolveImageConfigRequest,
  type ReturnRequest,
} from "@oci-worker/api/buildkit/llb-bridge";
import type { WorkerRecordSchema } from "@oci-worker/api/buildkit/worker";
import { metadataValues } from "@oci-worker/grpc/call";
import { type Channel, duplexChannel } from "@oci-worker/grpc/channel";
import { implement } from "@oci-worker/grpc/router";
import { serve } from "@oci-worker/grpc/serve";
import { openTunnel } from "@oci-worker/grpc/tunnel";
import { Pushed } from "./pushed.ts";

/** A session as the daemon sees it. */
export interface FakeSession {
  /** Values of `x-docker-expose-session-grpc-method`. */
  readonly methods: readonly string[];
  readonly name: string;
  /** Calls the client's services. */
  readonly channel: Channel;
  /** Resolves when the client has ended it. */
  readonly ended: Promise<void>;
  /** Ends it from this side. */
  close(): void;
}

/** A build in the hands of a script. */
export interface FakeBuild {
  readonly request: SolveRequest;
  readonly session: FakeSession;
  /** Aborted when the client takes the build back. */
  readonly signal: AbortSignal;
  /** Sends a status update. */
  tell(update: MessageInitShape<typeof StatusResponseSchema>): void;
  /** The definition that the client asks the bridge to solve. */
  readonly solved: Promise<Definition>;
  /** What the client returns to the bridge in the end. */
  readonly returned: Promise<ReturnRequest>;
}

export interface FakeDaemonOptions {
  /** Plays a build; returns what the exporter says, or throws what the build fails with. */
  readonly build?: (build: FakeBuild) => Promise<Record<string, string>>;
  /** Config of an image, as JSON; the digest is made up. */
  readonly imageConfig?: (request: ResolveImageConfigRequest, build: FakeBuild) => Promise<object> | object;
  /** Capabilities of the bridge and of LLB that are listed as enabled. */
  readonly capabilities?: { readonly gateway?: readonly string[]; readonly llb?: readonly string[] };
  readonly workers?: readonly MessageInitShape<typeof WorkerRecordSchema>[];
}

const gatewayCapabilities = ["solve.base", "return", "proto.refarray", "resolveimage"];
const llbCapabilities = [
  "source.image",
  "constraints",
  "platform",
  "meta.description",
  "meta.ignorecache",
  "exec.meta.base",
  "exec.meta.network",
  "exec.meta.setsdefaultpath",
  "exec.mount.bind",
];

/** The digest of every image that this daemon resolves. */
export const fakeImageDigest = `sha256:${"ab".repeat(32)}`;

/** What the daemon keeps of one build. */
class BuildRecord {
  readonly status = new Pushed<MessageInitShape<typeof StatusResponseSchema>>();
  readonly solved = Promise.withResolvers<Definition>();
  readonly returned = Promise.withResolvers<ReturnRequest>();
  build: FakeBuild | undefined;
}

/**
 * A BuildKit daemon that builds nothing: it speaks the protocol on a real socket and does what a script says. For tests
 * of programs that use this client.
 */
export async function startFakeDaemon(
  socketPath: string,
  options: FakeDaemonOptions = {},
): Promise<AsyncDisposable> {
  const daemon = new FakeDaemon(options);
  return await serve({
    addresses: [{ path: socketPath, mode: 0o600 }],
    implementations: [daemon.control(), daemon.bridge()],
    drainTimeoutMs: 100,
  });
}

class FakeDaemon {
  readonly #options: FakeDaemonOptions;
  readonly #sessions = new Map<string, PromiseWithResolvers<FakeSession>>();
  readonly #builds = new Map<string, BuildRecord>();

  constructor(options: FakeDaemonOptions) {
    this.#options = options;
  }

  control() {
    return implement(Control, {
      listWorkers: () => ({ record: [...(this.#options.workers ?? [])] }),

      info: () => ({
        buildkitVersion: { package: "example.com/fake", version: "v1.2.3", revision: "f00" },
      }),

      session: (requests, context) => {
        const one = (name: string) => metadataValues(context, name)[0] ?? "";
        const tunnel = openTunnel(bytesOf(requests));
        const channel = duplexChannel(tunnel.duplex, "session");
        tunnel.duplex.on("error", () => undefined);
        this.#session(one("x-docker-expose-session-uuid")).resolve({
          methods: metadataValues(context, "x-docker-expose-session-grpc-method"),
          name: one("x-docker-expose-session-name"),
          channel,
          ended: new Promise((resolve) => {
            context.signal.addEventListener("abort", () => resolve(), { once: true });
          }),
          close: () => tunnel.duplex.destroy(),
        });
        return messagesOf(tunnel.outgoing);
      },

      solve: async (request, { signal }) => {
        const record = this.#record(request.Ref);
        const session = await this.#session(request.Session).promise;
        const build: FakeBuild = {
          request,
          session,
          signal,
          tell: (update) => record.status.push(update),
          solved: record.solved.promise,
          returned: record.returned.promise,
        };
        record.build = build;
        try {
          return { ExporterResponse: (await this.#options.build?.(build)) ?? {} };
        } finally {
          record.status.end();
        }
      },

      status: ({ Ref }) => this.#record(Ref).status,
    });
  }

  bridge() {
    const { gateway = gatewayCapabilities, llb = llbCapabilities } = this.#options.capabilities ?? {};
    const enabled = (names: readonly string[]) => names.map((ID) => ({ ID, Enabled: true }));
    const recordOf = (context: Parameters<typeof metadataValues>[0]) => {
      const [id] = metadataValues(context, "buildkit-controlapi-buildid");
      if (id === undefined) {
        throw new ConnectError("no buildid found in context", Code.Unknown);
      }
      return this.#record(id);
    };
    return implement(LLBBridge, {
      ping: () => ({ FrontendAPICaps: enabled(gateway), LLBCaps: enabled(llb) }),

      resolveImageConfig: async (request, context) => {
        const { build } = recordOf(context);
        if (build === undefined || this.#options.imageConfig === undefined) {
          throw new ConnectError(`${request.Ref}: not found`, Code.NotFound);
        }
        const config = await this.#options.imageConfig(request, build);
        return { Digest: fakeImageDigest, Config: Buffer.from(JSON.stringify(config)) };
      },

      solve: ({ Definition: definition }, context) => {
        if (definition !== undefined) {
          recordOf(context).solved.resolve(definition);
        }
        return { result: { result: { case: "ref", value: { id: "solved" } } } };
      },

      return: (request, context) => {
        recordOf(context).returned.resolve(request);
        return {};
      },
    });
  }

  #session(id: string): PromiseWithResolvers<FakeSession> {
    const known = this.#sessions.get(id) ?? Promise.withResolvers<FakeSession>();
    this.#sessions.set(id, known);
    return known;
  }

  #record(id: string): BuildRecord {
    const known = this.#builds.get(id) ?? new BuildRecord();
    this.#builds.set(id, known);
    return known;
  }
}

async function* bytesOf(messages: AsyncIterable<{ readonly data: Uint8Array }>): AsyncGenerator<Uint8Array> {
  for await (const { data } of messages) {
    yield data;
  }
}

async function* messagesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<{ data: Uint8Array }> {
  for await (const data of chunks) {
    yield { data };
  }
}
