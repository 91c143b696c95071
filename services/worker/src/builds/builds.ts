import {
  AlreadyExistsError,
  CanceledError,
  FailedPreconditionError,
  NotFoundError,
  UnavailableError,
} from "@oci-worker/errdefs";
import type { Graph } from "@oci-worker/llb/definition";
import { digestOf } from "@oci-worker/oci/digest";
import { AwaitedMap } from "../awaited-map.ts";
import type { CacheRecords } from "../cache/records.ts";
import type { Entitlement } from "../config/config.ts";
import type { WorkerMetrics } from "../debug/worker-metrics.ts";
import type { BuildHistory, BuildOutcome } from "../history/build-history.ts";
import type { BuildDescription } from "../history/build-record.ts";
import type { SessionManager } from "../session/session-manager.ts";
import { messageOf } from "../solver/failure.ts";
import { Job } from "../solver/job.ts";
import type { Ref } from "../solver/operation.ts";
import type { ProgressLog } from "../solver/progress.ts";
import type { Scheduler } from "../solver/scheduler.ts";
import { VertexReport } from "../solver/vertex-report.ts";
import type { RunEdge } from "../solver/vertex-run.ts";
import { BuildTrace } from "../traces/build-trace.ts";
import type { TraceRecorder } from "../traces/recorder.ts";
import type { TraceContext } from "../traces/trace-context.ts";
import { requireAllEntitled, requireEntitled, requireGrantable } from "./entitlements.ts";
import type { Exporter, ResultMetadata } from "./exporter.ts";
import { type BuildResult, Gateway } from "./gateway.ts";
import { throughProxy } from "./proxy-network.ts";

/** What a client asks for with Control.Solve. */
export interface BuildRequest {
  /** The client's own name for the build. */
  readonly ref: string;
  /** Empty: the client takes no output and gives no credentials. */
  readonly sessionID: string;
  /** Undefined: the client drives the build itself, through the gateway. */
  readonly graph: Graph | undefined;
  /** Undefined: the result stays here. */
  readonly exporter: Exporter | undefined;
  /** What the client allows its build beyond the sandbox. */
  readonly entitlements: readonly string[];
  /** Whether its steps are to reach their networks by a proxy of the worker and in no other way. */
  readonly proxyNetwork: boolean;
  /** What is remembered of it; undefined for one that is nobody's business. */
  readonly description: BuildDescription | undefined;
  /** What the client's call is a part of; undefined if it has not said. */
  readonly caller: TraceContext | undefined;
}

/** A build whose client decides what is done, as it is seen by what is done for that client. */
export interface DrivenBuild {
  readonly job: Job;
  readonly gateway: Gateway;
  /** Whether what has a network is to reach it by a proxy. */
  readonly proxied: boolean;
  /** @throws {PermissionDeniedError} if client and operator have not both allowed all of `needed`. */
  requireEntitled(needed: readonly Entitlement[]): void;
}

interface Build {
  readonly request: BuildRequest;
  readonly job: Job;
  readonly gateway: Gateway | undefined;
}

/** How long a client that asks for a build waits for it: its calls may come in any order. Upstream's numbers. */
const statusPatienceMs = 6000;
const gatewayPatienceMs = 3000;

/** A session is waited for as long when a result is to be sent to it. */
const sessionPatienceMs = 5000;

/** The progress of a build that has ended can be asked for so much longer. */
const remembranceMs = 10_000;

/** Gives the steps of a graph the devices that they ask for and that the entitlements of the client allow, or refuses. */
export type GrantDevices = (graph: Graph, entitlements: readonly string[]) => Promise<Graph>;

export interface BuildsParts {
  readonly scheduler: Scheduler;
  readonly sessions: SessionManager;
  readonly records: Pick<CacheRecords, "lease">;
  /** What the operator lets builds be granted. */
  readonly entitlements: ReadonlySet<Entitlement>;
  readonly grantDevices: GrantDevices;
  /** Whether every build is as one that asks for a proxy network. */
  readonly proxyNetwork: boolean;
  readonly metrics: Pick<WorkerMetrics, "build">;
  readonly history: Pick<BuildHistory, "begin" | "complete">;
  readonly traces: TraceRecorder;
  /** Told of each build that has ended. */
  readonly onEnd: () => void;
}

/** The builds that are under way, and those that have just ended. Disposing cancels what is under way. */
export class Builds implements AsyncDisposable {
  readonly #scheduler: Scheduler;
  readonly #sessions: SessionManager;
  readonly #records: Pick<CacheRecords, "lease">;
  readonly #entitlements: ReadonlySet<Entitlement>;
  readonly #grantDevices: GrantDevices;
  readonly #proxyNetwork: boolean;
  readonly #metrics: Pick<WorkerMetrics, "build">;
  readonly #history: Pick<BuildHistory, "begin" | "complete">;
  readonly #traces: TraceRecorder;
  readonly #onEnd: () => void;
  readonly #builds = new AwaitedMap<Build>();
  readonly #running = new Set<Promise<unknown>>();
  #isStopping = false;

  constructor(parts: BuildsParts) {
    const { scheduler, sessions, records, entitlements, grantDevices, metrics } = parts;
    const { history, traces, proxyNetwork, onEnd } = parts;
    this.#scheduler = scheduler;
    this.#sessions = sessions;
    this.#records = records;
    this.#entitlements = entitlements;
    this.#grantDevices = grantDevices;
    this.#proxyNetwork = proxyNetwork;
    this.#metrics = metrics;
    this.#history = history;
    this.#traces = traces;
    this.#onEnd = onEnd;
  }

  /** Whether nothing is being built now. */
  get isIdle(): boolean {
    return this.#running.size === 0;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop(0);
  }

  /**
   * Takes no more builds, and lets those that are under way go on for `graceMs` milliseconds before they are canceled.
   * Resolves when nothing of any build runs or is mounted any more.
   */
  async stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    const cancel = () => {
      for (const { job } of this.#builds.values()) {
        job.cancel(new CanceledError("the worker is stopping"));
      }
    };
    const timer = setTimeout(cancel, graceMs);
    await Promise.allSettled(this.#running);
    clearTimeout(timer);
  }

  /**
   * Builds what is asked for.
   *
   * @param signal cancels the build. The promise settles when nothing of it runs or is mounted any more.
   * @returns what the client is told of the result, by upstream's keys.
   * @throws {UnavailableError} if the worker is stopping.
   * @throws {PermissionDeniedError} if the client asks for more than the operator allows.
   */
  async run(request: BuildRequest, signal: AbortSignal): Promise<Readonly<Record<string, string>>> {
    if (this.#isStopping) {
      throw new UnavailableError(`Cannot build ${request.ref}: the worker is stopping`);
    }
    requireGrantable(request.entitlements, this.#entitlements);
    const running = this.#metrics.build(() => this.#run(request, signal));
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
      this.#onEnd();
    }
  }

  /** What the build `ref` has reported and will report. Waited for if it has not come yet. */
  async progressOf(ref: string, signal: AbortSignal): Promise<ProgressLog> {
    return (await this.#find(ref, statusPatienceMs, signal)).job.progress;
  }

  /**
   * Has the client of the build `ref` want the result of `graph`.
   *
   * @param now waits until it is made.
   * @returns the id under which the client may name it.
   */
  async solve(ref: string, graph: Graph, now: boolean, signal: AbortSignal): Promise<string> {
    const { gateway, job, request } = await this.#findGateway(ref, signal);
    const result = await this.#load(graph, request, job);
    if (now) {
      await this.#scheduler.evaluate(result, job);
    }
    return gateway.keep(result);
  }

  /** Makes the result that the client of the build `ref` knows as `id`. It is held until the build ends. */
  async evaluate(ref: string, id: string, signal: AbortSignal): Promise<Ref> {
    const { job, gateway } = await this.#findGateway(ref, signal);
    const result = gateway.resultOf(id);
    return result === undefined ? { snapshot: undefined } : await this.#scheduler.evaluate(result, job);
  }

  /** The build `ref`, for what its client does with the results beside solving. */
  async driven(ref: string, signal: AbortSignal): Promise<DrivenBuild> {
    const { gateway, job, request } = await this.#findGateway(ref, signal);
    return {
      job,
      gateway,
      proxied: request.proxyNetwork || this.#proxyNetwork,
      requireEntitled: (needed) => requireAllEntitled(needed, request.entitlements, this.#entitlements),
    };
  }

  /** Ends the client's part of the build `ref`: `id` names its result, empty for none at all. */
  async succeed(ref: string, id: string, metadata: ResultMetadata, signal: AbortSignal): Promise<void> {
    const { gateway } = await this.#findGateway(ref, signal);
    gateway.succeed({ edge: id === "" ? undefined : gateway.resultOf(id), metadata });
  }

  /** Ends the build `ref` with a failure that its client has met. */
  async fail(ref: string, error: Error, signal: AbortSignal): Promise<void> {
    const { gateway } = await this.#findGateway(ref, signal);
    gateway.fail(error);
  }

  /**
   * Does work that no vertex stands for but that people wait for, such as an export, and shows it as one.
   */
  async report<T>(job: Job, name: string, work: (report: VertexReport) => Promise<T>): Promise<T> {
    const report = new VertexReport({ digest: digestOf(`${job.ref} ${name}`), inputs: [], name });
    report.subscribe((event) => job.progress.append(event));
    report.begin();
    try {
      const result = await work(report);
      report.complete();
      return result;
    } catch (error) {
      report.fail(messageOf(error));
      throw error;
    }
  }

  /** The job of the build `ref`, for work that its client asks for beside its graph. */
  async jobOf(ref: string, signal: AbortSignal): Promise<Job> {
    return (await this.#find(ref, gatewayPatienceMs, signal)).job;
  }

  async #run(request: BuildRequest, signal: AbortSignal): Promise<Readonly<Record<string, string>>> {
    const { ref, sessionID, description, caller: parent } = request;
    if (this.#builds.has(ref)) {
      throw new AlreadyExistsError(`job ID ${ref} exists`);
    }
    if (description !== undefined) {
      this.#history.begin(description);
    }
    let outcome: Pick<BuildOutcome, "response" | "error"> = { response: {}, error: undefined };
    const trace = new BuildTrace(this.#traces, { ref, parent, isKept: description !== undefined });
    const job = new Job(ref, sessionID === "" ? [] : [sessionID], trace.context);
    try {
      const response = await this.#answer(request, job, signal);
      outcome = { response, error: undefined };
      return response;
    } catch (error) {
      outcome = { response: {}, error };
      throw error;
    } finally {
      await this.#scheduler.leave(job);
      job[Symbol.dispose]();
      const { events } = job.progress;
      const recording = trace.end(events, outcome.error === undefined ? undefined : messageOf(outcome.error));
      if (description !== undefined) {
        await this.#history.complete(ref, { ...outcome, events, trace: recording });
      }
      setTimeout(() => this.#builds.delete(ref), remembranceMs).unref();
    }
  }

  async #answer(
    request: BuildRequest,
    job: Job,
    signal: AbortSignal,
  ): Promise<Readonly<Record<string, string>>> {
    const { ref, graph, exporter } = request;
    const build: Build = { request, job, gateway: graph === undefined ? new Gateway() : undefined };
    this.#builds.set(ref, build);
    const cancel = () => job.cancel(signal.reason);
    signal.addEventListener("abort", cancel, { once: true });
    try {
      const { result, metadata } = await this.#resultOf(build);
      return exporter === undefined ? {} : await this.#export(exporter, result, metadata, job);
    } finally {
      // They stand on results, which are let go of with the build.
      await build.gateway?.containers[Symbol.asyncDispose]();
      signal.removeEventListener("abort", cancel);
    }
  }

  async #resultOf({ request, job, gateway }: Build): Promise<{ result: Ref; metadata: ResultMetadata }> {
    const { graph } = request;
    const { edge, metadata }: BuildResult =
      graph === undefined
        ? ((await gateway?.returned(job.signal)) ?? { edge: undefined, metadata: {} })
        : { edge: await this.#load(graph, request, job), metadata: {} };
    const result = edge === undefined ? { snapshot: undefined } : await this.#scheduler.evaluate(edge, job);
    return { result, metadata };
  }

  async #load(graph: Graph, { entitlements, proxyNetwork }: BuildRequest, job: Job): Promise<RunEdge> {
    requireEntitled(graph, entitlements, this.#entitlements);
    const withDevices = await this.#grantDevices(graph, entitlements);
    const granted = proxyNetwork || this.#proxyNetwork ? throughProxy(withDevices) : withDevices;
    // A build that has ended meanwhile would never leave what it joins now.
    job.signal.throwIfAborted();
    return this.#scheduler.load(granted, job);
  }

  async #export(
    exporter: Exporter,
    result: Ref,
    metadata: ResultMetadata,
    job: Job,
  ): Promise<Readonly<Record<string, string>>> {
    const [sessionID] = job.sessionIDs;
    const session =
      sessionID === undefined
        ? undefined
        : await this.#sessions.get(sessionID, sessionPatienceMs, job.signal);
    const signal = session === undefined ? job.signal : AbortSignal.any([job.signal, session.signal]);
    using lease = this.#records.lease();
    return await this.report(job, exporter.name, (report) =>
      exporter.export(result, {
        session,
        metadata,
        report,
        signal,
        lease,
        sessionIDs: () => job.sessionIDs,
      }),
    );
  }

  async #find(ref: string, patienceMs: number, signal: AbortSignal): Promise<Build> {
    const build = await this.#builds.wait(ref, patienceMs, signal);
    if (build === undefined) {
      throw new NotFoundError(`no such job ${ref}`);
    }
    return build;
  }

  async #findGateway(ref: string, signal: AbortSignal): Promise<Build & { readonly gateway: Gateway }> {
    const build = await this.#find(ref, gatewayPatienceMs, signal);
    const { gateway } = build;
    if (gateway === undefined) {
      throw new FailedPreconditionError(`Cannot drive build ${ref}: it came with a definition of its own`);
    }
    return { ...build, gateway };
  }
}
