import { isAbsolute } from "node:path";
import {
  type ContainerEdits,
  type DeviceNode,
  type EditHook,
  type EditMount,
  type HookName,
  hookNames,
  type IntelRdt,
  type NodeType,
  nodeTypes,
  noEdits,
} from "./container-edits.ts";
import {
  formAt,
  listAt,
  type Place,
  requiredAt,
  tableAt,
  textAt,
  truthAt,
  wholeNumberAt,
  wrongPlace,
} from "./place.ts";

const maxUint32 = 2 ** 32 - 1;

/** Of mode_t, without the kind of file. */
const maxFileMode = 0o7777;

/** A CLOS is a directory of resctrl, so its name is no longer than a path, and "/" is the root's own. */
const maxClosIdBytes = 4095;

/**
 * Reads `containerEdits`.
 *
 * @throws {InvalidArgumentError} naming the place that is wrong, and what is wanted there.
 */
export function editsAt(place: Place | undefined): ContainerEdits {
  if (place === undefined) {
    return noEdits;
  }
  const table = tableAt(place, [
    "env",
    "deviceNodes",
    "netDevices",
    "hooks",
    "mounts",
    "intelRdt",
    "additionalGids",
  ]);
  const { rdt, unsupported } = intelRdtAt(table.intelRdt);
  return {
    env: listAt(table.env).map(variableAt),
    deviceNodes: listAt(table.deviceNodes).map(deviceNodeAt),
    mounts: listAt(table.mounts).map(mountAt),
    hooks: listAt(table.hooks).map(hookAt),
    additionalGids: listAt(table.additionalGids).map((gid) => wholeNumberAt(gid, 0, maxUint32)),
    intelRdt: rdt,
    // Those of config.json that runc has from 1.4 on alone: earlier ones pass over them in silence.
    unsupported: [...(listAt(table.netDevices).length > 0 ? ["netDevices"] : []), ...unsupported],
  };
}

function deviceNodeAt(place: Place): DeviceNode {
  const table = tableAt(place, [
    "path",
    "hostPath",
    "type",
    "major",
    "minor",
    "fileMode",
    "permissions",
    "uid",
    "gid",
  ]);
  const type = table.type && textAt(table.type);
  if (table.type !== undefined && type !== "" && !nodeTypes.some((known) => known === type)) {
    throw wrongPlace(table.type, `one of ${nodeTypes.join(", ")}`);
  }
  // 0 is what upstream's reader makes of a number that is not there, and so is taken for one that is not.
  const number = (at: Place | undefined, most: number) => (at && wholeNumberAt(at, 0, most)) || undefined;
  const id = (at: Place | undefined) => at && wholeNumberAt(at, 0, maxUint32);
  const major = number(table.major, maxUint32);
  return {
    path: absoluteAt(requiredAt(table.path, place, "path")),
    hostPath: table.hostPath && textAt(table.hostPath) !== "" ? absoluteAt(table.hostPath) : undefined,
    type: (type || undefined) as NodeType | undefined,
    major,
    minor: major === undefined ? undefined : (number(table.minor, maxUint32) ?? 0),
    fileMode: table.fileMode && wholeNumberAt(table.fileMode, 0, maxFileMode),
    permissions: permissionsAt(table.permissions),
    uid: id(table.uid),
    gid: id(table.gid),
  };
}

function permissionsAt(place: Place | undefined): string {
  const wanted = "letters of r, w and m, or none";
  const text = place && formAt(place, (value) => /^([rwm]*|none)$/.test(value), wanted);
  return text === "none" ? "" : text || "rwm";
}

function mountAt(place: Place): EditMount {
  const { containerPath, hostPath, options, type } = tableAt(place, [
    "hostPath",
    "containerPath",
    "options",
    "type",
  ]);
  return {
    // Of a tmpfs or the like it is a word.
    hostPath: formAt(requiredAt(hostPath, place, "hostPath"), isNotEmpty, "what is mounted"),
    containerPath: absoluteAt(requiredAt(containerPath, place, "containerPath")),
    type: type === undefined ? "" : textAt(type),
    options: listAt(options).map(textAt),
  };
}

function hookAt(place: Place): EditHook {
  const { args, env, hookName, path, timeout } = tableAt(place, [
    "hookName",
    "path",
    "args",
    "env",
    "timeout",
  ]);
  const name = requiredAt(hookName, place, "hookName");
  return {
    hookName: formAt(name, isHookName, `one of ${hookNames.join(", ")}`) as HookName,
    path: absoluteAt(requiredAt(path, place, "path")),
    args: listAt(args).map(textAt),
    env: listAt(env).map(variableAt),
    timeout: timeout && wholeNumberAt(timeout, 1, 2 ** 31 - 1),
  };
}

/** `schemata` and what monitors came to config.json after the version that our runtimes read. */
function intelRdtAt(place: Place | undefined): {
  readonly rdt: IntelRdt | undefined;
  readonly unsupported: readonly string[];
} {
  if (place === undefined) {
    return { rdt: undefined, unsupported: [] };
  }
  const table = tableAt(place, [
    "closID",
    "l3CacheSchema",
    "memBwSchema",
    "schemata",
    "enableMonitoring",
    "enableCMT",
    "enableMBM",
  ]);
  const { closID, l3CacheSchema, memBwSchema, schemata } = table;
  const monitors = (["enableMonitoring", "enableCMT", "enableMBM"] as const).filter((key) => {
    const monitor = table[key];
    return monitor !== undefined && truthAt(monitor);
  });
  return {
    rdt: {
      ...(closID && { closID: formAt(closID, isClosId, "the name of a directory of resctrl, or /") }),
      ...(l3CacheSchema && { l3CacheSchema: textAt(l3CacheSchema) }),
      ...(memBwSchema && { memBwSchema: textAt(memBwSchema) }),
    },
    unsupported: [
      ...(schemata === undefined ? [] : ["intelRdt.schemata"]),
      ...monitors.map((key) => `intelRdt.${key}`),
    ],
  };
}

function isClosId(text: string): boolean {
  return text === "/" || (!/^\.{1,2}$|[/\n]/.test(text) && Buffer.byteLength(text) <= maxClosIdBytes);
}

function isHookName(text: string): boolean {
  return hookNames.some((name) => name === text);
}

function isNotEmpty(text: string): boolean {
  return text !== "";
}

function variableAt(place: Place): string {
  return formAt(place, (text) => /^[^=\0]+=[^\0]*$/.test(text), "NAME=VALUE");
}

function absoluteAt(place: Place): string {
  return formAt(place, (text) => isAbsolute(text) && !text.includes("\0"), "an absolute path");
}
