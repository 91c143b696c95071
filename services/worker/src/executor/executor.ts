import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join, posix } from "node:path";
import { unmount } from "@oci-worker/mounts/mount";
import type { Logger } from "pino";
import { applyEdits, editedPaths } from "../cdi/apply-edits.ts";
import type { StepNetwork } from "../network/network.ts";
import type { Networks } from "../network/networks.ts";
import { hostIDs, type StepIDs } from "../remap/step-ids.ts";
import type { UserRemap } from "../remap/user-remap.ts";
import { memoryName, processesName, removeBundle, secretStatePath, writeConfig } from "./bundle.ts";
import { hasSystemd, hasUnifiedCgroups, isSlice } from "./cgroups.ts";
import { hostFailure } from "./host-failure.ts";
import {
  refuseLinkedKernelPlaces,
  refuseMountInProc,
  refuseWorkingDirectoryInProc,
} from "./kernel-places.ts";
import { removeLeftovers } from "./leftovers.ts";
import { MemoryDirectory } from "./memory-directory.ts";
import { MemoryKills } from "./memory-kills.ts";
import { findMountStubs } from "./mount-stubs.ts";
import { type DnsSettings, hostResolvConf, stepHosts, stepResolvConf, writeWhole } from "./network-files.ts";
import { type RuntimeSpec, runtimeSpec, type SpecMount } from "./oci-spec.ts";
import { pidFileIn } from "./pid-file.ts";
import { insecurePrivileges, type Privileges, sandboxPrivileges } from "./privileges.ts";
import { processUser } from "./process-user.ts";
import { proxiedEnvironment, trustProxy } from "./proxied-step.ts";
import { remappedSpec, showSys } from "./remapped-spec.ts";
import { RootMounts } from "./root-mounts.ts";
import { Rootfs } from "./rootfs.ts";
import { rootlessSpec } from "./rootless-spec.ts";
import type { Runc } from "./runc.ts";
import { RunningContainer, stopped } from "./running-container.ts";
import type { RuntimeExit } from "./runtime-process.ts";
import { labelFile, labelSnapshot } from "./selinux/label-files.ts";
import type { SelinuxPolicy } from "./selinux/policy.ts";
import { LabelPool, type StepLabels } from "./selinux/step-labels.ts";
import type { ProcessStreams, StartedProcess } from "./stdio/streams.ts";
import type { Command, Step } from "./step.ts";
import { specMounts } from "./step-mounts.ts";
import { StepProcesses } from "./step-processes.ts";
import type { StepTracing } from "./step-tracing.ts";

/** How a container has ended. */
export interface ContainerExit extends RuntimeExit {
  /** The kernel has killed processes for want of memory while it ran. */
  readonly outOfMemory: boolean;
}

export interface ExecutorOptions {
  /** Holds the bundles, and what an earlier process may have left of them. */
  readonly directory: string;
  readonly runc: Runc;
  readonly networks: Networks;
  readonly dns: DnsSettings;
  /** Whether the snapshotter sees to it that what a step has written is on disk when it is committed. */
  readonly syncsOnCommit: boolean;
  /** Of sandboxed steps; empty for none. */
  readonly apparmorProfile: string;
  /** By which steps are labelled; undefined for no labels. */
  readonly selinux: SelinuxPolicy | undefined;
  /** Whether this process is root in a user namespace only. */
  readonly isRootless: boolean;
  /** Rootless alone: whether steps share the worker's processes, see them and may kill them. */
  readonly sharesProcesses: boolean;
  /** What the ids of steps are on the host; undefined: the same. */
  readonly remap: UserRemap | undefined;
  /** On which the spans of steps are taken; undefined if they are not. */
  readonly traceSocketPath: string | undefined;
  readonly log: Logger;
}

/**
 * Runs steps under an OCI runtime: root mounted, files generated, spec written, and all of it undone again however the
 * step ends.
 */
export class Executor {
  readonly #options: ExecutorOptions;
  readonly #ids: StepIDs;
  readonly #roots: RootMounts;
  readonly #sandbox: Privileges;
  readonly #labels: LabelPool | undefined;
  readonly #unifiedCgroups = hasUnifiedCgroups();
  readonly #containers = new Map<string, RunningContainer>();

  constructor(options: ExecutorOptions) {
    this.#options = options;
    this.#ids = options.remap ?? hostIDs;
    this.#roots = new RootMounts(options.syncsOnCommit, this.#ids.owners);
    this.#sandbox = sandboxPrivileges(process.arch, options.apparmorProfile);
    this.#labels = options.selinux && new LabelPool(options.selinux);
  }

  /**
   * Removes what a process that was killed has left: containers, mounts, bundles.
   *
   * Call it once, before the first step.
   */
  async recover(): Promise<void> {
    await removeLeftovers(this.#options);
  }

  /**
   * Runs `step` to its end and tells how it ended.
   *
   * @param signal kills it. The promise settles when nothing of it runs or is mounted any more.
   * @throws {InvalidArgumentError} if what the step asks for cannot be in its image, such as a user.
   * @throws {ResourceExhaustedError} if the machine has run out of what it takes.
   */
  async run(step: Step, streams: ProcessStreams, signal: AbortSignal): Promise<ContainerExit> {
    try {
      return await this.#run(step, streams, signal);
    } catch (error) {
      // What goes wrong while it is taken away has no meaning of its own.
      signal.throwIfAborted();
      throw hostFailure(error);
    }
  }

  /**
   * Runs one more process in the container of a step.
   *
   * @param id of the step, which has been told to have started.
   * @param command what it leaves empty it has as the step.
   * @param signal kills the process alone.
   * @throws {FailedPreconditionError} if the step has ended; what runs in its container ends with it.
   * @throws {InvalidArgumentError} {NotFoundError} if the process cannot be in its image, as its user.
   */
  async exec(
    id: string,
    command: Command,
    streams: ProcessStreams,
    signal: AbortSignal,
  ): Promise<ContainerExit> {
    const container = this.#containers.get(id);
    if (container === undefined) {
      throw stopped(id);
    }
    return { ...(await container.exec(command, streams, signal)), outOfMemory: false };
  }

  async #run(step: Step, streams: ProcessStreams, signal: AbortSignal): Promise<ContainerExit> {
    await using undo = new AsyncDisposableStack();
    const bundle = join(this.#options.directory, step.id);
    await mkdir(bundle, { mode: 0o711 });
    undo.defer(() => removeBundle(bundle));
    const labels = undo.use(this.#labels?.take(!step.insecure));
    const network = undo.use(await this.#options.networks.open(step.network, step, signal));
    const rootfsPath = join(bundle, "rootfs");
    await mkdir(rootfsPath);
    await this.#roots.mount(await labelSnapshot(step.rootMounts, labels), rootfsPath);
    undo.defer(() => unmount(rootfsPath));

    refuseLinkedKernelPlaces(rootfsPath);
    const destinations = step.mounts.map(({ destination }) => destination);
    for (const destination of destinations) {
      refuseMountInProc(rootfsPath, destination);
    }
    const stubs = findMountStubs(
      rootfsPath,
      [...destinations, ...editedPaths(step.edits)],
      step.removeStubParents,
    );
    const memory = undo.use(new MemoryDirectory(join(bundle, memoryName), labels?.mount));
    const mounts = [
      ...(await specMounts(step.mounts, { bundle, memory, ids: this.#ids, labels, undo })),
      ...(await trustProxy(network.proxy, step, rootfsPath, { memory, undo })),
    ];
    const processes = this.#options.sharesProcesses
      ? undo.use(await StepProcesses.begin(join(bundle, processesName)))
      : undefined;
    const plain = await this.#spec(step, bundle, rootfsPath, mounts, network, labels);
    const { isRootless, remap } = this.#options;
    const wanted = applyEdits(plain, step.edits, isRootless || remap !== undefined);
    const sysPath =
      remap !== undefined && network.namespace === "host" ? await showSys(bundle, undo) : undefined;
    const placed =
      remap !== undefined
        ? remappedSpec(wanted, remap, sysPath)
        : isRootless
          ? rootlessSpec(wanted, processes?.namespacePath)
          : wanted;
    const spec = withTerminal(placed, streams.terminal === true);
    let { runc } = this.#options;
    if (step.secretEnv.length > 0) {
      // The spec has the secrets, and crun keeps a copy of it with its state.
      await writeConfig(spec, bundle, await memory.path());
      runc = runc.withState(join(bundle, secretStatePath));
    } else {
      await writeConfig(spec, bundle, bundle);
    }

    if (spec.linux.cgroupsPath !== undefined && isSlice(step.cgroupParent) && hasSystemd()) {
      runc = runc.withSystemdCgroups();
    }

    signal.throwIfAborted();
    const kills = new MemoryKills(spec.linux.cgroupsPath === undefined ? undefined : step.id);
    const container = new RunningContainer({
      ...{ id: step.id, runc, bundle, rootfsPath, spec, memory },
      ids: this.#ids,
    });
    const exit = await this.#runToEnd(container, streams, signal, processes);
    const requests = await network.proxy?.close();
    if (requests) {
      await streams.onOutput(2, Buffer.from(requests));
    }
    if (!step.readonlyRootfs) {
      stubs.remove();
    }
    return { ...exit, outOfMemory: !signal.aborted && kills.explain(exit.code) };
  }

  /**
   * What the first process of a step leaves behind, where it has no pid name space, is killed when that ends; the runtime
   * would wait for it.
   */
  async #runToEnd(
    container: RunningContainer,
    { onStart, ...streams }: ProcessStreams,
    signal: AbortSignal,
    processes: StepProcesses | undefined,
  ): Promise<RuntimeExit> {
    const { id, runc, bundle } = container.place;
    const begin = (process: StartedProcess) => {
      this.#containers.set(id, container);
      onStart?.(process);
    };
    const ended = new AbortController();
    const watching = processes?.killAfterFirst(pidFileIn(bundle), ended.signal);
    try {
      const owner = this.#ids.owners?.root;
      return await runc.run(id, bundle, { ...streams, owner, ...(onStart && { onStart: begin }) }, signal);
    } finally {
      this.#containers.delete(id);
      ended.abort();
      await watching;
      await container.end();
    }
  }

  /** Without its socket a step runs untraced, and does not fail. */
  #tracing({ trace: parent }: Step): StepTracing | undefined {
    const { traceSocketPath: socketPath } = this.#options;
    return socketPath !== undefined && existsSync(socketPath) ? { socketPath, parent } : undefined;
  }

  async #spec(
    step: Step,
    bundle: string,
    rootfsPath: string,
    mounts: readonly SpecMount[],
    { namespace: network, proxy }: StepNetwork,
    labels: StepLabels | undefined,
  ): Promise<RuntimeSpec> {
    using rootfs = new Rootfs(rootfsPath);
    const root = this.#ids.hostOwner({ uid: 0, gid: 0 });
    const user = processUser(step.user, rootfs);
    const cwd = posix.resolve("/", step.cwd);
    refuseWorkingDirectoryInProc(rootfsPath, cwd);
    if (!step.readonlyRootfs) {
      rootfs.makeDirectory(cwd, this.#ids.hostOwner(user), root);
    }
    const resolvConf = stepResolvConf(await hostResolvConf(), this.#options.dns, network);
    const resolvConfPath = await writeWhole(bundle, "resolv.conf", resolvConf, root);
    const hosts = stepHosts(step.hostname, step.extraHosts);
    const hostsPath = await writeWhole(bundle, "hosts", hosts, root);
    if (labels !== undefined) {
      labelFile(resolvConfPath, labels.mount);
      labelFile(hostsPath, labels.mount);
    }
    return runtimeSpec({
      id: step.id,
      rootfsPath,
      readonlyRootfs: step.readonlyRootfs,
      args: step.args,
      env: proxiedEnvironment([...step.env, ...step.secretEnv], proxy),
      cwd,
      user,
      hostname: step.hostname,
      network,
      resolvConfPath,
      hostsPath,
      mounts,
      tracing: this.#tracing(step),
      unifiedCgroups: this.#unifiedCgroups,
      cgroupParent: step.cgroupParent,
      limits: step.limits,
      privileges: step.insecure ? insecurePrivileges() : this.#sandbox,
      labels,
    });
  }
}

function withTerminal(spec: RuntimeSpec, terminal: boolean): RuntimeSpec {
  return terminal ? { ...spec, process: { ...spec.process, terminal } } : spec;
}
