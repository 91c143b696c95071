import type { ExecOp } from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { Platform } from "@oci-worker/oci/platform";
import type { Logger } from "pino";
import { type ContainerEdits, noEdits } from "../cdi/container-edits.ts";
import type { DeviceRegistry } from "../cdi/device-registry.ts";
import type { Executor } from "../executor/executor.ts";
import type { Step } from "../executor/step.ts";
import { newId } from "../new-id.ts";
import type { Slots } from "../slots.ts";
import type { Operation, OperationContext, Ref } from "../solver/operation.ts";
import { exitFailure } from "./exec-failure.ts";
import { execKey } from "./exec-key.ts";
import { type MountParts, MountPreparation, type PreparedMount } from "./exec-mounts.ts";
import { isInsecure, networkMode } from "./sandbox-modes.ts";
import { secretEnvironment } from "./secret-environment.ts";
import { StepEcho } from "./step-echo.ts";
import { stepEnvironment } from "./step-environment.ts";
import { StepLog, type StepLogLimits } from "./step-log.ts";

export interface ExecParts extends MountParts {
  readonly executor: Executor;
  /** Undefined if steps have no devices. */
  readonly devices: DeviceRegistry | undefined;
  readonly logLimits: StepLogLimits;
  /** Where what steps print goes besides; undefined for nowhere. */
  readonly echoLog: Logger | undefined;
  /** Places for steps that run at a time; undefined for no limit. */
  readonly slots: Slots | undefined;
  /** Parent of the cgroup of a step that asks for none. */
  readonly defaultCgroupParent: string;
}

/** Runs a command in the file systems that its inputs are. */
export class ExecOperation implements Operation {
  readonly #op: ExecOp;
  readonly #proxied: boolean;
  readonly #platform: Platform;
  readonly #parts: ExecParts;

  /**
   * @param op with the names of devices that it is to have, if any.
   * @param proxied whether it must reach its network by a proxy.
   */
  constructor(op: ExecOp, proxied: boolean, platform: Platform, parts: ExecParts) {
    this.#op = op;
    this.#proxied = proxied;
    this.#platform = platform;
    this.#parts = parts;
  }

  cacheKey(inputKeys: readonly string[], { keyOf }: OperationContext): Promise<Digest> {
    return Promise.resolve(keyOf(execKey(this.#op, this.#platform, inputKeys)));
  }

  async execute(inputs: readonly Ref[], context: OperationContext): Promise<readonly (Ref | undefined)[]> {
    const { meta, mounts } = this.#op;
    await using undo = new AsyncDisposableStack();
    const secretEnv = await secretEnvironment(
      this.#op.secretenv,
      this.#parts.sessions,
      context.sessionIDs(),
      context.signal,
    );
    const preparation = new MountPreparation(this.#parts, inputs, context, undo);
    const prepared = await preparation.prepareAll(mounts, meta?.cwd ?? "/", `exec ${meta?.args.join(" ")}`);
    await this.#run(this.#step(prepared, secretEnv, await this.#edits(), context), context);
    const outputs: (Ref | undefined)[] = [];
    for (const { mount, keep } of prepared) {
      if (mount.output >= 0n) {
        outputs[Number(mount.output)] = await keep();
      }
    }
    return outputs;
  }

  async #run(step: Step, { report, signal }: OperationContext): Promise<void> {
    const { echoLog, executor, logLimits, slots } = this.#parts;
    using log = new StepLog(report, logLimits, echoLog && new StepEcho(echoLog, report.vertex));
    const running = () =>
      executor.run(step, { onOutput: (stream, chunk) => log.write(stream, chunk) }, signal);
    try {
      const exit = await (slots === undefined ? running() : slots.run(running, signal));
      signal.throwIfAborted();
      const failure = exitFailure(step.args, exit, this.#op.meta?.validExitCodes ?? []);
      if (failure !== undefined) {
        throw failure;
      }
    } catch (error) {
      log.showTails();
      throw error;
    }
  }

  #step(
    prepared: readonly PreparedMount[],
    secretEnv: readonly string[],
    edits: ContainerEdits,
    { trace }: OperationContext,
  ): Step {
    const { meta, network, security } = this.#op;
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
      removeStubParents: meta.removeMountStubsRecursive,
      args: meta.args,
      env: stepEnvironment(meta),
      secretEnv,
      cwd: meta.cwd,
      user: meta.user,
      hostname: meta.hostname,
      extraHosts: meta.extraHosts.map(({ Host, IP }) => ({ host: Host, ip: IP })),
      network: networkMode(network),
      proxied: this.#proxied,
      insecure: isInsecure(security),
      cgroupParent: meta.cgroupParent || this.#parts.defaultCgroupParent,
      limits: meta.ulimit.map(({ Name, Soft, Hard }) => ({ name: Name, soft: Soft, hard: Hard })),
      edits,
      trace: trace(),
    };
  }

  /** What its devices change, as their specifications are now. */
  async #edits(): Promise<ContainerEdits> {
    const names = this.#op.cdiDevices.map(({ name }) => name);
    const devices = names.length === 0 ? undefined : await this.#parts.devices?.read();
    return devices?.edits(names) ?? noEdits;
  }
}
