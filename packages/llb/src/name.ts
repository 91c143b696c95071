import type { FileAction, Op, SourceOp } from "@oci-worker/api/buildkit/llb";

/** Names of merges hold the names of what is merged, so they can double with every level. Characters. */
const maxNameChars = 4096;

/** The key in an op's description with the name that its author gave it. */
export const customNameKey = "llb.customname";

/**
 * What people are shown for an op: the text that BuildKit shows, so that users and their tests recognise it.
 *
 * @param inputNames the names of the op's inputs, in their order.
 */
export function opName({ op }: Op, inputNames: readonly string[]): string {
  return shortened(fullName(op, inputNames));
}

function fullName(op: Op["op"], inputNames: readonly string[]): string {
  switch (op.case) {
    case "source":
      return sourceName(op.value);
    case "exec":
      return (op.value.meta?.args ?? []).join(" ");
    case "file":
      return op.value.actions.map(({ action }) => actionName(action)).join(", ");
    case "build":
      return "build";
    case "merge":
      return `merge (${inputNames.join(", ")})`;
    case "diff": {
      const { lower, upper } = op.value;
      return `diff ${inputName(lower?.input, inputNames)} -> ${inputName(upper?.input, inputNames)}`;
    }
    case "passthrough":
      return "passthrough";
    case undefined:
      return "unknown";
  }
}

function sourceName({ identifier, attrs }: SourceOp): string {
  const patterns = identifier.startsWith("local://") ? textList(attrs["local.includepattern"]) : [];
  const [only, ...others] = patterns;
  return only !== undefined && others.length === 0 ? `${identifier} (${only})` : identifier;
}

function actionName(action: FileAction["action"]): string {
  switch (action.case) {
    case "copy":
      return `copy ${action.value.src} ${action.value.dest}`;
    case "mkfile":
      return `mkfile ${action.value.path}`;
    case "mkdir":
      return `mkdir ${action.value.path}`;
    case "rm":
      return `rm ${action.value.path}`;
    case "symlink":
      return `symlink ${action.value.oldpath} -> ${action.value.newpath}`;
    case undefined:
      return "unknown";
  }
}

function inputName(input: bigint | undefined, names: readonly string[]): string {
  const name = input === undefined || input < 0n ? undefined : names[Number(input)];
  return name === undefined ? "scratch" : `(${name})`;
}

/** A JSON array of strings, as source attributes carry lists; anything else counts as none. */
function textList(json: string | undefined): string[] {
  if (json === undefined) {
    return [];
  }
  try {
    const value: unknown = JSON.parse(json);
    return Array.isArray(value) && value.every((each) => typeof each === "string") ? value : [];
  } catch {
    // A name is no place to refuse a source: whoever reads the attribute for its meaning does.
    return [];
  }
}

function shortened(name: string): string {
  return name.length <= maxNameChars ? name : `${name.slice(0, maxNameChars - 1)}…`;
}
