import { NetMode, type Mount as OpMount, SecurityMode } from "@oci-worker/api/buildkit/llb";
import { ServiceError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import type { Builds } from "../builds/builds.ts";
import { entitlementsOf } from "../builds/entitlements.ts";
import type { CacheRecords } from "../cache/records.ts";
import type { ExtraHost } from "../executor/network-files.ts";
import type { ProcessStreams } from "../executor/stdio/streams.ts";
import { isInsecure, networkMode } from "../ops/sandbox-modes.ts";
import { failureOf } from "../solver/failure.ts";
import type { Ref } from "../solver/operation.ts";
import { Container, type ContainerParts, type ProcessRequest } from "./container.ts";
import type { ProcessEnd } from "./process-end.ts";

/** What the client of a build asks for with LLBBridge.NewContainer. */
export interface NewContainer {
  readonly id: string;
  /** They refer to results of the build by `resultID`. */
  readonly mounts: readonly OpMount[];
  readonly network: NetMode;
  readonly hostname: string;
  readonly extraHosts: readonly ExtraHost[];
  /** The operating system that its programs are for. */
  readonly os: string;
}

/** What it asks for with the first message of LLBBridge.ExecProcess. */
export interface NewProcess extends Omit<ProcessRequest, "insecure"> {
  readonly containerID: string;
  readonly security: SecurityMode;
}

/** A process that is to be run. */
export interface PreparedProcess {
  /** Whether its container has a process already. */
  readonly isFurther: boolean;
  /** Runs it to its end, until `signal` kills it. */
  readonly run: (streams: ProcessStreams, signal: AbortSignal) => Promise<ProcessEnd>;
}

interface BuildContainersParts {
  readonly builds: Pick<Builds, "driven" | "evaluate">;
  readonly containers: ContainerParts;
  readonly records: Pick<CacheRecords, "lease">;
  readonly log: Logger;
}

/** The containers in which the clients of builds look at results. They end with their build, if nobody ends them before. */
export class BuildContainers {
  readonly #builds: Pick<Builds, "driven" | "evaluate">;
  readonly #parts: ContainerParts;
  readonly #records: Pick<CacheRecords, "lease">;
  readonly #log: Logger;

  constructor({ builds, containers, records, log }: BuildContainersParts) {
    this.#log = log;
    this.#builds = builds;
    this.#parts = containers;
    this.#records = records;
  }

  /**
   * Makes a container of the build `ref`, once the results that it is made of are there.
   *
   * @throws {PermissionDeniedError} if its network reaches beyond the sandbox and that is not allowed (CVE-2024-23653).
   * @throws {NotFoundError} if there is no such result.
   * @throws {AlreadyExistsError} if the build has a container of that name.
   */
  async open(ref: string, wanted: NewContainer, signal: AbortSignal): Promise<void> {
    const { job, gateway, proxied, requireEntitled } = await this.#builds.driven(ref, signal);
    requireEntitled(entitlementsOf({ network: wanted.network, security: SecurityMode.SANDBOX }));
    const network = networkMode(wanted.network);
    await gateway.containers.open(wanted.id, async () => {
      const refs = await this.#refsOf(ref, wanted.mounts, signal);
      using lease = this.#records.lease();
      const owner = { signal: job.signal, sessionIDs: () => job.sessionIDs, lease };
      return await Container.open({ ...wanted, network, proxied, refs }, this.#parts, owner, signal);
    });
  }

  /**
   * Ends a container of the build `ref`.
   *
   * @throws {NotFoundError} if there is none.
   * @throws how the first of its processes has failed, if one has.
   */
  async release(ref: string, id: string, signal: AbortSignal): Promise<void> {
    const { gateway } = await this.#builds.driven(ref, signal);
    await gateway.containers.release(id);
  }

  /**
   * Gives what runs a process in a container of the build `ref`. To be run at once, before another is prepared.
   *
   * @throws {PermissionDeniedError} if it is to have privileges that are not allowed (CVE-2024-23653).
   * @throws {NotFoundError} if there is no such container.
   */
  async prepare(
    ref: string,
    { containerID, security, ...request }: NewProcess,
    signal: AbortSignal,
  ): Promise<PreparedProcess> {
    const { gateway, requireEntitled } = await this.#builds.driven(ref, signal);
    requireEntitled(entitlementsOf({ network: NetMode.UNSET, security }));
    const process = { ...request, insecure: isInsecure(security) };
    const container = await gateway.containers.get(containerID);
    const run: PreparedProcess["run"] = async (streams, ends) => {
      try {
        return await container.run(process, streams, ends);
      } catch (error) {
        if (!(error instanceof ServiceError) && !ends.aborted) {
          this.#log.error({ err: error, build: ref, container: containerID }, "process failed");
        }
        throw failureOf(error);
      }
    };
    return { isFurther: container.isBegun, run };
  }

  /** The results that the mounts name, made if they are not there yet. */
  async #refsOf(
    ref: string,
    mounts: readonly OpMount[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, Ref>> {
    const refs = new Map<string, Ref>();
    for (const { resultID } of mounts) {
      if (resultID !== "" && !refs.has(resultID)) {
        refs.set(resultID, await this.#builds.evaluate(ref, resultID, signal));
      }
    }
    return refs;
  }
}
