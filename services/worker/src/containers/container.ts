import { create } from "@bufbuild/protobuf";
import { MountSchema, MountType, type Mount as OpMount, type SecretEnv } from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import { noEdits } from "../cdi/container-edits.ts";
import type { ContainerExit, Executor } from "../executor/executor.ts";
import type { ExtraHost } from "../executor/network-files.ts";
import type { ProcessStreams } from "../executor/stdio/streams.ts";
import type { Step } from "../executor/step.ts";
import type { NetworkMode } from "../network/network.ts";
import { newId } from "../new-id.ts";
import { type MountContext, type MountParts, MountPreparation } from "../ops/exec-mounts.ts";
import { secretEnvironment } from "../ops/secret-environment.ts";
import { failureOf } from "../solver/failure.ts";
import type { Ref } from "../solver/operation.ts";
import { canceledEnd, endOf, type ProcessEnd } from "./process-end.ts";
import { processEnvironment } from "./process-environment.ts";

export interface ContainerParts extends MountParts {
  readonly executor: Executor;
  /** Parent of the cgroups of containers. */
  readonly defaultCgroupParent: string;
}

/** A container that a client asks for. */
export interface ContainerRequest {
  /** The client's own name for it. */
  readonly id: string;
  /** They refer to results by `resultID`. */
  readonly mounts: readonly OpMount[];
  /** The results, by their ids. */
  readonly refs: ReadonlyMap<string, Ref>;
  readonly network: NetworkMode;
  /** Whether it must reach its network by a proxy. */
  readonly proxied: boolean;
  /** Empty for the default. */
  readonly hostname: string;
  readonly extraHosts: readonly ExtraHost[];
  /** The operating system that its programs are for. */
  readonly os: string;
}

/** A process that a client asks for in a container. */
export interface ProcessRequest {
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly secretEnv: readonly SecretEnv[];
  /** Empty for the root directory. */
  readonly cwd: string;
  /** Empty for root, or whoever the first process of the container is. */
  readonly user: string;
  /** Counts for the first process alone: others run with the privileges of that. */
  readonly insecure: boolean;
  readonly removeStubParents: boolean;
}

/** For whom a container is, and until when. */
export interface ContainerOwner extends Omit<MountContext, "signal"> {
  /** Ends everything in the container. */
  readonly signal: AbortSignal;
}

/**
 * A container that a client has asked for: file systems, in which it runs one process after the other, or beside it. The
 * first process is the container's own: when it ends, the others are killed.
 *
 * Nothing in it becomes a result; what its processes write is dropped with it.
 */
export class Container {
  readonly #request: ContainerRequest;
  readonly #parts: ContainerParts;
  readonly #owner: ContainerOwner;
  readonly #root: Step["rootMounts"];
  readonly #rootReadonly: boolean;
  readonly #mounts: Step["mounts"];
  readonly #undo: AsyncDisposableStack;
  readonly #stepId = newId();
  readonly #released = new AbortController();
  readonly #running = new Set<Promise<ContainerExit>>();
  /** When the first process has been started, or has failed to; undefined if nobody has asked for one. */
  #begun: Promise<void> | undefined;
  #failure: Error | undefined;

  private constructor(
    request: ContainerRequest,
    parts: ContainerParts,
    owner: ContainerOwner,
    mounts: { root: Step["rootMounts"]; isRootReadonly: boolean; others: Step["mounts"] },
    undo: AsyncDisposableStack,
  ) {
    this.#request = request;
    this.#parts = parts;
    this.#owner = owner;
    this.#root = mounts.root;
    this.#rootReadonly = mounts.isRootReadonly;
    this.#mounts = mounts.others;
    this.#undo = undo;
  }

  /**
   * Gets the mounts of a container ready.
   *
   * @param signal gives it up.
   * @throws {InvalidArgumentError} if it has no root, or a mount that cannot be.
   * @throws {NotFoundError} if a secret that it must have is not there.
   */
  static async open(
    request: ContainerRequest,
    parts: ContainerParts,
    owner: ContainerOwner,
    signal: AbortSignal,
  ): Promise<Container> {
    await using undo = new AsyncDisposableStack();
    const inputs = [...request.refs.values()];
    const ids = [...request.refs.keys()];
    const context = { ...owner, signal: AbortSignal.any([owner.signal, signal]) };
    const preparation = new MountPreparation(parts, inputs, context, undo);
    const mounts = request.mounts.map((mount) => mountOf(mount, BigInt(ids.indexOf(mount.resultID))));
    const prepared = await preparation.prepareAll(mounts, "/", `container ${request.id}`);
    const root = prepared.find(({ mount }) => mount.dest === "/");
    if (root?.step?.kind !== "snapshot") {
      throw new InvalidArgumentError(`Cannot make container ${request.id}: want a mount at "/"`);
    }
    const others = prepared
      .filter((each) => each !== root)
      .flatMap(({ step }) => (step === undefined ? [] : [step]));
    const found = { root: root.step.mounts, isRootReadonly: !root.step.writable, others };
    return new Container(request, parts, owner, found, undo.move());
  }

  /** Whether a process has been started in it, so that the next one is none of its own. */
  get isBegun(): boolean {
    return this.#begun !== undefined;
  }

  /**
   * Runs a process to its end: the first one in a container of its own, others in that.
   *
   * @param signal kills it; if it is the first one, with all others.
   * @throws {FailedPreconditionError} if the first process has ended.
   * @throws {NotFoundError} if the container has been released.
   */
  async run(process: ProcessRequest, streams: ProcessStreams, signal: AbortSignal): Promise<ProcessEnd> {
    if (this.#released.signal.aborted) {
      throw noContainer(this.#request.id);
    }
    const ends = AbortSignal.any([signal, this.#owner.signal, this.#released.signal]);
    const running = this.#run(process, streams, ends);
    this.#running.add(running);
    try {
      const end = endOf(await running);
      const told = ends.aborted && end.failure !== undefined ? canceledEnd : end;
      this.#failure ??= told.failure;
      return told;
    } catch (error) {
      if (ends.aborted) {
        this.#failure ??= canceledEnd.failure;
        return canceledEnd;
      }
      this.#failure ??= failureOf(error);
      throw error;
    } finally {
      this.#running.delete(running);
    }
  }

  /**
   * Kills what runs in it, and takes it away.
   *
   * @returns how the first of its processes that has failed did; those count that are killed now.
   */
  async release(): Promise<Error | undefined> {
    this.#released.abort();
    await Promise.allSettled(this.#running);
    await this.#undo.disposeAsync();
    return this.#failure;
  }

  async #run(process: ProcessRequest, streams: ProcessStreams, signal: AbortSignal): Promise<ContainerExit> {
    const { executor, sessions } = this.#parts;
    const begun = Promise.withResolvers<void>();
    const first = this.#begun;
    this.#begun ??= begun.promise;
    try {
      const secretEnv = await secretEnvironment(
        process.secretEnv,
        sessions,
        this.#owner.sessionIDs(),
        signal,
      );
      const { args, cwd, user } = process;
      const env = processEnvironment(process.env, this.#request.os, streams.terminal === true);
      const command = { args, env, secretEnv, cwd: cwd || "/", user };
      if (first !== undefined) {
        await first;
        return await executor.exec(this.#stepId, command, streams, signal);
      }
      const step = { ...this.#step(process), ...command };
      const onStart: ProcessStreams["onStart"] = (started) => {
        streams.onStart?.(started);
        begun.resolve();
      };
      return await executor.run(step, { ...streams, onStart }, signal);
    } finally {
      begun.resolve();
    }
  }

  #step({
    insecure,
    removeStubParents,
  }: ProcessRequest): Omit<Step, "args" | "env" | "secretEnv" | "cwd" | "user"> {
    const { hostname, extraHosts, network, proxied } = this.#request;
    return {
      id: this.#stepId,
      rootMounts: this.#root,
      readonlyRootfs: this.#rootReadonly,
      mounts: this.#mounts,
      removeStubParents,
      hostname,
      extraHosts,
      network,
      proxied,
      insecure,
      cgroupParent: this.#parts.defaultCgroupParent,
      limits: [],
      edits: noEdits,
      trace: undefined,
    };
  }
}

/** In upstream's words. */
export function noContainer(id: string): NotFoundError {
  return new NotFoundError(`container ${JSON.stringify(id)} previously released or not created`);
}

/** The mount as a step has it: of its own input, -1 for the empty one, and without a result. */
function mountOf(mount: OpMount, input: bigint): OpMount {
  if (mount.dest === "/" && mount.mountType !== MountType.BIND) {
    throw new InvalidArgumentError(`invalid mount type ${mount.mountType} for ${mount.dest}: want bind (0)`);
  }
  return create(MountSchema, { ...mount, input, output: -1n });
}
