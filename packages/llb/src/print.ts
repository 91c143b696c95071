import type { ExecOp, FileAction, FileOp, Mount } from "@oci-worker/api/buildkit/llb";
import { MountType, NetMode, SecurityMode } from "@oci-worker/api/buildkit/llb";
import { formatPlatform } from "@oci-worker/oci/platform";
import type { Edge, Graph, Vertex } from "./definition.ts";
import { platformFromProto } from "./platform.ts";

/** How an output is told in a line: the number of its vertex in the dump, and of the output. */
type Refer = (edge: Edge | undefined) => string;

/**
 * A dump for people, one operation a line, inputs first. A vertex is spoken of by its number in the dump.
 *
 * ```text
 * 1 sha256:d0b1… source docker-image://docker.io/library/busybox:latest linux/amd64
 * 2 sha256:86d7… exec ["true"] cwd=/ mounts=[/ rw from 1.0 to 0]
 * result 2.0
 * ```
 */
export function printGraph({ vertices, result }: Graph): string {
  const numbers = new Map(vertices.map((vertex, index) => [vertex, index + 1]));
  const refer: Refer = (edge) =>
    edge === undefined ? "scratch" : `${numbers.get(edge.vertex) ?? "?"}.${edge.index}`;
  const lines = vertices.map((vertex, index) => `${index + 1} ${vertex.digest} ${describe(vertex, refer)}`);
  return `${[...lines, `result ${refer(result)}`].join("\n")}\n`;
}

function describe(vertex: Vertex, refer: Refer): string {
  const { op, metadata } = vertex;
  const parts = [describeOp(vertex, refer)];
  if (op.platform !== undefined) {
    parts.push(formatPlatform(platformFromProto(op.platform)));
  }
  if (metadata.ignoreCache) {
    parts.push("ignore-cache");
  }
  for (const [key, text] of sorted(metadata.description)) {
    parts.push(`${key}=${JSON.stringify(text)}`);
  }
  const caps = sorted(metadata.caps).map(([name]) => name);
  if (caps.length > 0) {
    parts.push(`caps=${caps.join(",")}`);
  }
  return parts.join(" ");
}

function describeOp({ op, inputs }: Vertex, refer: Refer): string {
  const input = (index: bigint) => refer(index < 0n ? undefined : inputs[Number(index)]);
  const { op: kind } = op;
  switch (kind.case) {
    case "source": {
      const attributes = sorted(kind.value.attrs).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
      return `source ${kind.value.identifier}${attributes.join("")}`;
    }
    case "exec":
      return describeExec(kind.value, input);
    case "file":
      return describeFile(kind.value, inputs.length, input);
    case "merge":
      return `merge ${kind.value.inputs.map((each) => input(each.input)).join(" ")}`;
    case "diff":
      return `diff ${input(kind.value.lower?.input ?? -1n)} ${input(kind.value.upper?.input ?? -1n)}`;
    case "build":
    case "passthrough":
    case undefined:
      return `${kind.case ?? "unknown"} ${inputs.map(refer).join(" ")}`;
  }
}

function describeExec(exec: ExecOp, input: (index: bigint) => string): string {
  const { meta, mounts, network, security } = exec;
  const parts = [`exec ${JSON.stringify(meta?.args ?? [])}`];
  if (meta !== undefined) {
    parts.push(`cwd=${meta.cwd}`);
    parts.push(...(meta.user === "" ? [] : [`user=${meta.user}`]));
    parts.push(...(meta.env.length === 0 ? [] : [`env=${JSON.stringify(meta.env)}`]));
    parts.push(...(meta.hostname === "" ? [] : [`hostname=${meta.hostname}`]));
    parts.push(...(meta.validExitCodes.length === 0 ? [] : [`exits=${meta.validExitCodes.join(",")}`]));
  }
  if (network !== NetMode.UNSET) {
    parts.push(`network=${nameIn(NetMode, network)}`);
  }
  if (security !== SecurityMode.SANDBOX) {
    parts.push(`security=${nameIn(SecurityMode, security)}`);
  }
  parts.push(`mounts=[${mounts.map((mount) => describeMount(mount, input)).join(", ")}]`);
  return parts.join(" ");
}

function describeMount(mount: Mount, input: (index: bigint) => string): string {
  const parts = [mount.dest, mount.readonly ? "ro" : "rw"];
  if (mount.mountType === MountType.BIND) {
    parts.push(`from ${input(mount.input)}${mount.selector === "" ? "" : `:${mount.selector}`}`);
  } else {
    const id = mount.cacheOpt?.ID ?? mount.secretOpt?.ID ?? mount.SSHOpt?.ID;
    parts.push(nameIn(MountType, mount.mountType), ...(id === undefined ? [] : [id]));
  }
  if (mount.output >= 0n) {
    parts.push(`to ${mount.output}`);
  }
  return parts.join(" ");
}

/** Where an action starts from: an input of the op, or the result of an earlier action. */
function describeFile({ actions }: FileOp, inputCount: number, input: (index: bigint) => string): string {
  const base = (index: bigint) =>
    index >= BigInt(inputCount) ? `action ${index - BigInt(inputCount)}` : input(index);
  return `file [${actions.map((action) => describeAction(action, base)).join(", ")}]`;
}

function describeAction(
  { action, input, secondaryInput, output }: FileAction,
  base: (index: bigint) => string,
): string {
  const on = `on ${base(input)}${output < 0n ? "" : ` to ${output}`}`;
  switch (action.case) {
    case "copy":
      return `copy ${base(secondaryInput)}:${action.value.src} ${action.value.dest} ${on}`;
    case "mkfile":
      return `mkfile ${action.value.path} (${action.value.data.length} bytes) ${on}`;
    case "mkdir":
    case "rm":
      return `${action.case} ${action.value.path} ${on}`;
    case "symlink":
      return `symlink ${action.value.newpath} -> ${action.value.oldpath} ${on}`;
    case undefined:
      return "unknown";
  }
}

function nameIn(names: Readonly<Record<string, number>>, value: number): string {
  const name = Object.entries(names).find(([, number]) => number === value)?.[0];
  return name?.toLowerCase() ?? String(value);
}

function sorted<T>(map: Readonly<Record<string, T>>): [key: string, value: T][] {
  return Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1));
}
