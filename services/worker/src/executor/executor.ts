import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join, posix } from "node:path";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Mount, mountAll, unmount } from "@oci-worker/mounts/mount";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import type { Logger } from "pino";
import type { NetworkMode, NetworkNamespace } from "../network/network.ts";
import type { Networks } from "../network/networks.ts";
import { findMountStubs } from "./mount-stubs.ts";
import {
  type DnsSettings,
  type ExtraHost,
  hostResolvConf,
  stepHosts,
  stepResolvConf,
  writeWhole,
} from "./network-files.ts";
import { type ResourceLimit, type RuntimeSpec, type SpecMount, sandboxSpec } from "./oci-spec.ts";
import { processUser } from "./process-user.ts";
import { Rootfs } from "./rootfs.ts";
import type { ContainerExit, OutputListener, Runc } from "./runc.ts";

/** What a step sees at one place of its file system besides its root. */
export type StepMount =
  | {
      readonly kind: "snapshot";
      readonly destination: string;
      readonly mounts: readonly Mount[];
      /** Path inside the snapshot that is shown; "/" for all of it. */
      readonly selector: string;
      readonly writable: boolean;
    }
  | { readonly kind: "tmpfs"; readonly destination: string; readonly sizeBytes: bigint };

/** One command to run in a container of its own. */
export interface Step {
  readonly id: string;
  readonly rootMounts: readonly Mount[];
  readonly readonlyRootfs: boolean;
  readonly mounts: readonly StepMount[];
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** Absolute; made if the image lacks it. */
  readonly cwd: string;
  /** As in `USER` of an image; empty for root. */
  readonly user: string;
  readonly hostname: string;
  readonly extraHosts: readonly ExtraHost[];
  readonly network: NetworkMode;
  readonly cgroupParent: string;
  readonly limits: readonly ResourceLimit[];
}

export interface ExecutorOptions {
  /** Holds the bundles, and what an earlier process may have left of them. */
  readonly directory: string;
  readonly runc: Runc;
  readonly networks: Networks;
  readonly dns: DnsSettings;
  readonly log: Logger;
}

/**
 * Runs steps under an OCI runtime: root mounted, files generated, spec written, and all of it undone again however the
 * step ends.
 */
export class Executor {
  readonly #options: ExecutorOptions;

  constructor(options: ExecutorOptions) {
    this.#options = options;
  }

  /**
   * Removes what a process that was killed has left: containers, mounts, bundles.
   *
   * Call it once, before the first step.
   */
  async recover(): Promise<void> {
    const { directory, log, runc } = this.#options;
    await mkdir(directory, { recursive: true, mode: 0o711 });
    for (const id of await runc.list()) {
      log.warn({ container: id }, "container of an earlier run removed");
      await runc.delete(id);
    }
    const mountPoints = await unmountBeneath(directory);
    if (mountPoints.length > 0) {
      log.warn({ mountPoints }, "mounts of an earlier run undone");
    }
    for (const name of await readdir(directory)) {
      await rm(join(directory, name), { recursive: true, force: true });
    }
  }

  /**
   * Runs `step` to its end and tells how it ended.
   *
   * @param signal kills it. The promise settles when nothing of it runs or is mounted any more.
   * @throws {InvalidArgumentError} if what the step asks for cannot be in its image, such as a user.
   */
  async run(step: Step, onOutput: OutputListener, signal: AbortSignal): Promise<ContainerExit> {
    await using undo = new AsyncDisposableStack();
    const bundle = join(this.#options.directory, step.id);
    await mkdir(bundle, { mode: 0o711 });
    undo.defer(() => rm(bundle, { recursive: true, force: true }));
    const network = undo.use(await this.#options.networks.open(step.network, step, signal));
    const rootfsPath = join(bundle, "rootfs");
    await mkdir(rootfsPath);
    await mountAll(step.rootMounts, rootfsPath);
    undo.defer(() => unmount(rootfsPath));

    const mounts: SpecMount[] = [];
    for (const [index, mount] of step.mounts.entries()) {
      mounts.push(await this.#specMount(mount, join(bundle, `mount-${index}`), undo));
    }
    const spec = await this.#spec(step, bundle, rootfsPath, mounts, network.namespace);
    await writeFile(join(bundle, "config.json"), JSON.stringify(spec), { mode: 0o600 });

    const stubs = findMountStubs(
      rootfsPath,
      step.mounts.map(({ destination }) => destination),
    );
    signal.throwIfAborted();
    const exit = await this.#options.runc.run(step.id, bundle, onOutput, signal);
    if (!step.readonlyRootfs) {
      stubs.remove();
    }
    return exit;
  }

  async #spec(
    step: Step,
    bundle: string,
    rootfsPath: string,
    mounts: readonly SpecMount[],
    network: NetworkNamespace,
  ): Promise<RuntimeSpec> {
    using rootfs = new Rootfs(rootfsPath);
    const user = processUser(step.user, rootfs);
    const cwd = posix.resolve("/", step.cwd);
    if (!step.readonlyRootfs) {
      rootfs.makeDirectory(cwd, user.uid, user.gid);
    }
    const resolvConf = stepResolvConf(await hostResolvConf(), this.#options.dns, network);
    return sandboxSpec({
      id: step.id,
      rootfsPath,
      readonlyRootfs: step.readonlyRootfs,
      args: step.args,
      env: step.env,
      cwd,
      user,
      hostname: step.hostname,
      network,
      resolvConfPath: await writeWhole(bundle, "resolv.conf", resolvConf),
      hostsPath: await writeWhole(bundle, "hosts", stepHosts(step.hostname, step.extraHosts)),
      mounts,
      cgroupParent: step.cgroupParent,
      limits: step.limits,
      machine: process.arch,
    });
  }

  /** What the runtime is told of a mount. A snapshot that is no plain directory is mounted at `path` first. */
  async #specMount(mount: StepMount, path: string, undo: AsyncDisposableStack): Promise<SpecMount> {
    if (mount.kind === "tmpfs") {
      const options = ["nosuid", ...(mount.sizeBytes > 0n ? [`size=${mount.sizeBytes}`] : [])];
      return { destination: mount.destination, type: "tmpfs", source: "tmpfs", options };
    }
    const { destination, selector, writable } = mount;
    const options = [writable ? "rw" : "ro", "rbind"];
    const [only, ...others] = mount.mounts;
    if (only?.type === "bind" && others.length === 0 && selector === "/") {
      return { destination, type: "bind", source: only.source, options };
    }
    await mkdir(path);
    await mountAll(mount.mounts, path);
    undo.defer(() => unmount(path));
    using root = new Rootfs(path);
    const source = root.resolve(selector);
    if (source === undefined) {
      throw new InvalidArgumentError(
        `Cannot mount ${JSON.stringify(selector)} at ${destination}: there is no such path in its snapshot`,
      );
    }
    return { destination, type: "bind", source, options };
  }
}
