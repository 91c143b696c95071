import type { DiffOp, ExecOp, FileOp, MergeOp, Op, SourceOp } from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { refuseZeroBytes } from "./zero-bytes.ts";

/** Input number of a mount or an action that has none: an empty directory. */
const noInput = -1n;

/** The path of the root file system among the mounts of an exec op. */
const rootPath = "/";

/**
 * Checks that `op` is complete and that the inputs it speaks of are there. Texts are those of BuildKit where it has
 * one, because clients and their tests look for them.
 *
 * @throws {InvalidArgumentError}
 */
export function validateOp({ op, inputs }: Op): void {
  switch (op.case) {
    case undefined:
      refuse("invalid nil op");
      break;
    case "exec":
      validateExec(op.value, inputs.length);
      break;
    case "file":
      validateFile(op.value, inputs.length);
      break;
    case "merge":
      validateMerge(op.value, inputs.length);
      break;
    case "diff":
      validateDiff(op.value, inputs.length);
      break;
    case "source":
      validateSource(op.value);
      break;
    case "build":
    case "passthrough":
      break;
  }
}

function validateSource({ identifier }: SourceOp): void {
  if (identifier === "") {
    refuse("invalid source op with no identifier");
  }
}

function validateExec({ meta, mounts }: ExecOp, inputCount: number): void {
  if (meta === undefined) {
    refuse("invalid exec op with no meta");
  }
  if (meta.args.length === 0) {
    refuse("invalid exec op with no args");
  }
  if (mounts.length === 0) {
    refuse("invalid exec op with no mounts");
  }
  if (!mounts.some(({ dest }) => dest === rootPath)) {
    refuse("invalid exec op with no rootfs");
  }
  for (const { dest, input } of mounts) {
    requireInput(input, inputCount, `exec op: mount ${JSON.stringify(dest)}`);
  }
  const { args, env, cwd, user, hostname, cgroupParent, extraHosts } = meta;
  const hosts = extraHosts.map(({ Host }) => Host);
  const paths = mounts.flatMap(({ dest, selector }) => [dest, selector]);
  refuseZeroBytes("invalid exec op", [
    ...args,
    ...env,
    cwd,
    user,
    hostname,
    cgroupParent,
    ...hosts,
    ...paths,
  ]);
}

/** An input beyond those of the op is the result of an earlier action: number of inputs + number of that action. */
function validateFile({ actions }: FileOp, inputCount: number): void {
  if (actions.length === 0) {
    refuse("invalid file op with no actions");
  }
  for (const [index, { action, input, secondaryInput }] of actions.entries()) {
    if (action.case === undefined) {
      refuse(`invalid file op: action ${index} is of no kind`);
    }
    requireInput(input, inputCount + index, `file op: action ${index}`);
    requireInput(secondaryInput, inputCount + index, `file op: action ${index}`);
  }
}

function validateMerge({ inputs }: MergeOp, inputCount: number): void {
  for (const { input } of inputs) {
    requireInput(input, inputCount, "merge op");
  }
}

function validateDiff({ lower, upper }: DiffOp, inputCount: number): void {
  if (lower === undefined || upper === undefined) {
    refuse("invalid diff op: want a lower and an upper input");
  }
  requireInput(lower.input, inputCount, "diff op");
  requireInput(upper.input, inputCount, "diff op");
}

function requireInput(input: bigint, count: number, where: string): void {
  if (input < noInput || input >= BigInt(count)) {
    refuse(`invalid ${where} refers to input ${input}, want -1 to ${count - 1}`);
  }
}

function refuse(text: string): never {
  throw new InvalidArgumentError(text);
}
