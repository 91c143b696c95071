import type { Client } from "@connectrpc/connect";
import type { Control } from "@oci-worker/api/buildkit/control";
import type { LLBBridge } from "@oci-worker/api/buildkit/llb-bridge";
import { CanceledError, ServiceError, UnavailableError } from "@oci-worker/errdefs";
import type { ReceivedTree } from "@oci-worker/fsutil/receive";
import type { Implementation } from "@oci-worker/grpc/router";
import { anonymous } from "../credentials/credentials.ts";
import { dockerConfigDirectory } from "../credentials/docker-config.ts";
import { newID } from "../new-id.ts";
import { authService } from "../session/auth.ts";
import { fileSendService, fileTakingService } from "../session/file-send.ts";
import { secretsService } from "../session/secrets.ts";
import { openSession, type Session } from "../session/session.ts";
import { sshAgentService } from "../session/ssh-agents.ts";
import { tokenSeedsIn } from "../session/token-seeds.ts";
import type { Build, BuildOptions, BuildResult, Output } from "./build.ts";
import { buildErrorOf } from "./build-error.ts";
import { type BuildFunction, type OpenGateway, openGateway } from "./gateway.ts";
import { statusUpdateOf } from "./status.ts";
import { StatusFeed } from "./status-feed.ts";

/** The services of a daemon that a build needs. */
export interface Daemon {
  readonly control: Client<typeof Control>;
  readonly bridge: Client<typeof LLBBridge>;
}

/** How long the daemon may take to end the status of a build that is over, in milliseconds. */
const statusGraceMs = 3000;

/** How long it may take to clean up after a build that was canceled, in milliseconds. */
const cleanUpGraceMs = 20_000;

/** How long it may take to end a build whose build function has failed, in milliseconds. */
const failureGraceMs = 5000;

/** Starts a build that goes as `run` says. */
export function startBuild(daemon: Daemon, run: BuildFunction, options: BuildOptions): Build {
  const id = newID();
  const feed = new StatusFeed();
  const result = new RunningBuild(daemon, id, feed, options).run(run);
  // Whoever reads the status first comes late to a failure; without this the process would end before.
  result.catch(() => undefined);
  return { id, status: feed, result };
}

class RunningBuild {
  readonly #daemon: Daemon;
  readonly #id: string;
  readonly #feed: StatusFeed;
  readonly #options: BuildOptions;
  /** Aborted when the calls that make the build are to end, whoever wants that. */
  readonly #stop = new AbortController();
  readonly #stopStatus = new AbortController();
  /** The daemon knows the build, so it has a status that it will end. */
  #begun = false;
  #over = false;
  #received: ReceivedTree | undefined;

  constructor(daemon: Daemon, id: string, feed: StatusFeed, options: BuildOptions) {
    this.#daemon = daemon;
    this.#id = id;
    this.#feed = feed;
    this.#options = options;
  }

  async run(run: BuildFunction): Promise<BuildResult> {
    const { signal } = this.#options;
    const onAbort = () => this.#stop.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      signal?.throwIfAborted();
      return await this.#runInSession(run);
    } catch (thrown) {
      if (!this.#begun) {
        // The daemon may never have known this build, and would look for its status in vain.
        this.#stopStatus.abort();
        this.#feed.end();
      }
      throw this.#explain(thrown);
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  async #runInSession(run: BuildFunction): Promise<BuildResult> {
    using session = openSession(this.#daemon.control, {
      services: this.#services(),
      name: this.#options.sessionName ?? "oci-worker",
    });
    void session.ended.then((failure) => {
      if (!this.#over) {
        const why = failure === undefined ? "the daemon closed it" : failure.message;
        this.#stop.abort(new UnavailableError(`Cannot go on with build: its session ended: ${why}`));
      }
    });
    const status = this.#watchStatus();
    try {
      const exporterResponse = await this.#solve(run, session);
      return { exporterResponse, received: this.#received };
    } finally {
      this.#over = true;
      this.#feed.stopWaiting();
      const isCanceled = this.#options.signal?.aborted === true;
      const timer = setTimeout(() => this.#stopStatus.abort(), isCanceled ? cleanUpGraceMs : statusGraceMs);
      const ended = status.finally(() => clearTimeout(timer));
      // The daemon ends the status of a canceled build when it has cleaned up after it.
      if (isCanceled) {
        await ended;
      }
    }
  }

  #services(): Implementation[] {
    const {
      output,
      credentials = anonymous,
      fetchesTokens = true,
      secrets,
      sshAgents,
      services = [],
      seedDirectory,
    } = this.#options;
    const seeds = tokenSeedsIn(seedDirectory ?? dockerConfigDirectory());
    return [
      authService(credentials, seeds, fetchesTokens),
      ...(output?.type === "local" ? [this.#fileSend(output.directory)] : []),
      ...(output?.type === "file" ? [fileTakingService(output.write)] : []),
      ...(secrets === undefined ? [] : [secretsService(secrets)]),
      ...(sshAgents === undefined ? [] : [sshAgentService(sshAgents)]),
      ...services,
    ];
  }

  #fileSend(directory: string): Implementation {
    return fileSendService(directory, (received) => {
      this.#received = received;
    });
  }

  /** The call that lasts as long as the build, and beside it the build function that tells the daemon what to do. */
  async #solve(run: BuildFunction, session: Session): Promise<Readonly<Record<string, string>>> {
    const gatewayStop = new AbortController();
    const request = this.#request(session);
    const solved = outcomeOf(this.#daemon.control.solve(request, { signal: this.#stop.signal })).then(
      (outcome) => {
        gatewayStop.abort();
        return outcome;
      },
    );
    const failure = await this.#drive(run, AbortSignal.any([this.#stop.signal, gatewayStop.signal]));
    if (failure !== undefined) {
      const timer = setTimeout(() => this.#stop.abort(), failure.isKnown ? failureGraceMs : 0);
      await solved;
      clearTimeout(timer);
      throw failure.error;
    }
    const outcome = await solved;
    if ("error" in outcome) {
      throw outcome.error;
    }
    return outcome.value.ExporterResponse;
  }

  /** Runs the build function. What ended the build from outside is told by the call that lasts as long as it. */
  async #drive(run: BuildFunction, signal: AbortSignal): Promise<GatewayFailure | undefined> {
    let gateway: OpenGateway | undefined;
    try {
      gateway = await openGateway(this.#daemon.bridge, this.#id, signal);
      this.#begun = true;
      gateway.capabilities.require("return");
      await gateway.finish(await run(gateway, signal));
      return undefined;
    } catch (error) {
      if (signal.aborted) {
        return undefined;
      }
      return { error, isKnown: (await gateway?.fail(error)) ?? false };
    }
  }

  #request(session: Session) {
    const { output, entitlements = [], proxyNetwork = false } = this.#options;
    const exporter = exporterOf(output);
    return {
      Ref: this.#id,
      Session: session.id,
      Entitlements: [...entitlements],
      ProxyNetwork: proxyNetwork,
      Cache: {},
      // Daemons before 0.14 read the first two fields, later ones the list.
      ExporterDeprecated: exporter?.Type ?? "",
      ExporterAttrsDeprecated: exporter?.Attrs ?? {},
      Exporters: exporter === undefined ? [] : [exporter],
    };
  }

  async #watchStatus(): Promise<void> {
    const { signal } = this.#stopStatus;
    try {
      for await (const response of this.#daemon.control.status({ Ref: this.#id }, { signal })) {
        await this.#feed.offer(statusUpdateOf(response));
      }
      this.#feed.end();
    } catch (error) {
      // Why the status of a build that is over was cut off, or never began, is told by the build's own result.
      const isNews = this.#begun && !this.#over && !signal.aborted;
      this.#feed.end(isNews ? buildErrorOf(error) : undefined);
    }
  }

  /** What the caller gets to see of a failure: its own abort and the end of the session come before what they caused. */
  #explain(thrown: unknown): unknown {
    const { signal } = this.#options;
    if (signal?.aborted === true) {
      return new CanceledError("Cannot finish build: it was canceled", { cause: signal.reason });
    }
    const { reason } = this.#stop.signal;
    const failure = buildErrorOf(thrown);
    const isConsequence = failure instanceof ServiceError && failure.reason === "CANCELED";
    return isConsequence && reason instanceof UnavailableError ? reason : failure;
  }
}

/** Why a build function did not come to its end. */
interface GatewayFailure {
  readonly error: unknown;
  /** The daemon knows and ends the build by itself. */
  readonly isKnown: boolean;
}

type Outcome<T> = { readonly value: T } | { readonly error: unknown };

/** How `promise` ended, as a value: for what is looked at later, when another one has ended. */
function outcomeOf<T>(promise: Promise<T>): Promise<Outcome<T>> {
  return promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
}

function exporterOf(output: Output | undefined): { Type: string; Attrs: Record<string, string> } | undefined {
  switch (output?.type) {
    case "local":
      return { Type: "local", Attrs: {} };
    case "file":
      return { Type: output.exporter, Attrs: { ...output.attributes } };
    case "exporter":
      return { Type: output.name, Attrs: { ...output.attributes } };
    case undefined:
      return undefined;
  }
}
