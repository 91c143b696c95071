import {
  type ExecOp,
  MountType,
  NetMode,
  type Mount as OpMount,
  SecurityMode,
} from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError, UnimplementedError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { Platform } from "@oci-worker/oci/platform";
import type { Executor, Step, StepMount } from "../executor/executor.ts";
import type { ContainerExit } from "../executor/runc.ts";
import type { NetworkMode } from "../network/network.ts";
import { newId } from "../new-id.ts";
import type { RefStore } from "../refs/ref-store.ts";
import { ExitError } from "../solver/failure.ts";
import type { Operation, OperationContext, Ref } from "../solver/operation.ts";
import { execKey } from "./exec-key.ts";
import { StepLog, type StepLogLimits } from "./step-log.ts";

/** What a step finds on its path if its image does not say (BuildKit, util/system/path.go). */
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The shell's exit codes for a command that is not there, and for one that may not be run. */
const exitNotFound = 127;
const exitNotExecutable = 126;

export interface ExecParts {
  readonly refs: RefStore;
  readonly executor: Executor;
  readonly logLimits: StepLogLimits;
  /** Parent of the cgroup of a step that asks for none. */
  readonly defaultCgroupParent: string;
}

/** One mount of a step, and what becomes of it afterwards. */
interface PreparedMount {
  readonly mount: OpMount;
  readonly step: StepMount | undefined;
  /** Gives the mount's output, when the step has ended well. */
  readonly keep: () => Promise<Ref>;
}

/** Runs a command in the file systems that its inputs are. */
export class ExecOperation implements Operation {
  readonly #op: ExecOp;
  readonly #platform: Platform;
  readonly #parts: ExecParts;

  /** @throws {UnimplementedError} naming what the step asks for that this worker cannot give it. */
  constructor(op: ExecOp, platform: Platform, parts: ExecParts) {
    refuseUnsupported(op);
    this.#op = op;
    this.#platform = platform;
    this.#parts = parts;
  }

  cacheKey(inputKeys: readonly string[]): Promise<Digest> {
    return Promise.resolve(execKey(this.#op, this.#platform, inputKeys));
  }

  async execute(inputs: readonly Ref[], context: OperationContext): Promise<readonly (Ref | undefined)[]> {
    await using undo = new AsyncDisposableStack();
    const prepared: PreparedMount[] = [];
    for (const mount of this.#op.mounts) {
      prepared.push(await this.#prepare(mount, inputs, undo, context.signal));
    }
    await this.#run(prepared, context);
    const outputs: (Ref | undefined)[] = [];
    for (const { mount, keep } of prepared) {
      if (mount.output >= 0n) {
        outputs[Number(mount.output)] = await keep();
      }
    }
    return outputs;
  }

  async #run(prepared: readonly PreparedMount[], { report, signal }: OperationContext): Promise<void> {
    using log = new StepLog(report, this.#parts.logLimits);
    const step = this.#step(prepared);
    const exit = await this.#parts.executor.run(step, (stream, chunk) => log.write(stream, chunk), signal);
    signal.throwIfAborted();
    if (exit.code !== 0) {
      throw failure(step.args, exit);
    }
  }

  #step(prepared: readonly PreparedMount[]): Step {
    const { meta, network } = this.#op;
    const root = prepared.find(({ mount }) => mount.dest === "/");
    if (meta === undefined || root?.step?.kind !== "snapshot") {
      throw new InvalidArgumentError("invalid exec op with no rootfs");
    }
    return {
      id: newId(),
      rootMounts: root.step.mounts,
      readonlyRootfs: !root.step.writable,
      mounts: prepared
        .filter((each) => each !== root)
        .flatMap(({ step }) => (step === undefined ? [] : [step])),
      args: meta.args,
      env: meta.env.some((variable) => variable.startsWith("PATH=")) ? meta.env : [defaultPath, ...meta.env],
      cwd: meta.cwd,
      user: meta.user,
      hostname: meta.hostname,
      extraHosts: meta.extraHosts.map(({ Host, IP }) => ({ host: Host, ip: IP })),
      network: networkMode(network),
      cgroupParent: meta.cgroupParent || this.#parts.defaultCgroupParent,
      limits: meta.ulimit.map(({ Name, Soft, Hard }) => ({ name: Name, soft: Soft, hard: Hard })),
    };
  }

  /** Gets a mount ready; `undo` drops what nobody keeps. */
  async #prepare(
    mount: OpMount,
    inputs: readonly Ref[],
    undo: AsyncDisposableStack,
    signal: AbortSignal,
  ): Promise<PreparedMount> {
    const { refs } = this.#parts;
    const base = mount.input < 0n ? { snapshot: undefined } : inputs[Number(mount.input)];
    if (base === undefined) {
      throw new InvalidArgumentError(`Cannot mount ${mount.dest}: the step has no input ${mount.input}`);
    }
    const { dest: destination } = mount;
    if (mount.mountType === MountType.TMPFS) {
      const step: StepMount = { kind: "tmpfs", destination, sizeBytes: mount.TmpfsOpt?.size ?? 0n };
      return { mount, step, keep: () => Promise.resolve(base) };
    }
    const selector = mount.selector || "/";
    if (mount.readonly) {
      const { mounts } = undo.use(await refs.view(base, signal));
      const step: StepMount = { kind: "snapshot", destination, mounts, selector, writable: false };
      return { mount, step, keep: () => Promise.resolve(base) };
    }
    const mutable = await refs.prepare(base, signal);
    let kept = false;
    undo.defer(() => (kept ? Promise.resolve() : mutable.drop()));
    const step: StepMount = {
      kind: "snapshot",
      destination,
      mounts: mutable.mounts,
      selector,
      writable: true,
    };
    return {
      mount,
      step,
      keep: async () => {
        const ref = await mutable.commit();
        kept = true;
        return ref;
      },
    };
  }
}

function networkMode(mode: NetMode): NetworkMode {
  switch (mode) {
    case NetMode.UNSET:
      return "default";
    case NetMode.HOST:
      return "host";
    case NetMode.NONE:
      return "none";
    default:
      throw new InvalidArgumentError(`Cannot run a step with network mode ${mode}: want 0 to 2`);
  }
}

/** The failure of a command, in the words that upstream's users and tests look for. */
function failure(args: readonly string[], { code, complaint }: ContainerExit): ExitError {
  const command = JSON.stringify(args.join(" "));
  if (complaint === "") {
    return new ExitError(`process ${command} did not complete successfully: exit code: ${code}`, code);
  }
  const shellCode = exitCodeOf(complaint) ?? code;
  return new ExitError(
    `process ${command} did not complete successfully: ${complaint}: exit code: ${shellCode}`,
    shellCode,
  );
}

/** The code a shell would have ended with, where the runtime could not start the command at all. */
function exitCodeOf(complaint: string): number | undefined {
  if (/executable file not found|no such file or directory/.test(complaint)) {
    return exitNotFound;
  }
  return /permission denied|exec format error/.test(complaint) ? exitNotExecutable : undefined;
}

function refuseUnsupported(op: ExecOp): void {
  if (op.security !== SecurityMode.SANDBOX) {
    throw new UnimplementedError(
      "Cannot run a step with security.insecure: this worker runs sandboxed steps only",
    );
  }
  if (op.secretenv.length > 0) {
    throw new UnimplementedError("Cannot run a step with secrets in its environment: this worker gives none");
  }
  if (op.cdiDevices.length > 0) {
    throw new UnimplementedError("Cannot run a step with CDI devices: this worker gives none");
  }
  for (const { mountType, dest } of op.mounts) {
    if (mountType !== MountType.BIND && mountType !== MountType.TMPFS) {
      throw new UnimplementedError(
        `Cannot mount ${dest} of type ${mountType}: this worker has bind (0) and tmpfs (4)`,
      );
    }
  }
}
