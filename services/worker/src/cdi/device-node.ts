import { type BigIntStats, statSync } from "node:fs";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { splitDevice } from "@oci-worker/libc/file";
import type { DeviceNode, NodeType } from "./container-edits.ts";

/** A node with all that the runtime has to know of it. */
export interface FoundNode {
  readonly type: NodeType;
  readonly major: number;
  readonly minor: number;
  /** Permission bits; undefined for the runtime's default. */
  readonly fileMode: number | undefined;
}

const permissionBits = 0o7777n;

/**
 * Looks up on the host what a specification does not say of a node.
 *
 * @throws {FailedPreconditionError} if the host has no such device, or one of another type.
 */
export function findNode(node: DeviceNode): FoundNode {
  const hostPath = node.hostPath ?? node.path;
  const { type, major, minor = 0 } = node;
  const said =
    type !== undefined && (major !== undefined || type === "p")
      ? { type, major: major ?? 0, minor }
      : undefined;
  const host = hostNode(hostPath, said === undefined);
  const fileMode = node.fileMode ?? host?.fileMode;
  if (said !== undefined) {
    return { ...said, fileMode };
  }
  if (host === undefined) {
    throw notDevice(hostPath);
  }
  // A node does not say whether its device has a buffer.
  const isSame = type === undefined || type === host.type || (type === "u" && host.type === "c");
  if (!isSame) {
    throw new FailedPreconditionError(
      `Cannot give a step the CDI device node ${node.path}: ${hostPath} of the host is of type ${host.type}, want ${type}`,
    );
  }
  return {
    ...host,
    type: type ?? host.type,
    ...(major !== undefined && { major, minor }),
    fileMode,
  };
}

/** @throws {FailedPreconditionError} if there is no device at `path` of the host. */
export function requireHostDevice(path: string): void {
  if (hostNode(path, true) === undefined) {
    throw notDevice(path);
  }
}

function notDevice(path: string): FailedPreconditionError {
  return new FailedPreconditionError(
    `Cannot give a step the CDI host device ${JSON.stringify(path)}: it is no device, want one`,
  );
}

/** The device that a path of the host leads to; undefined for what is none. */
function hostNode(path: string, isNeeded: boolean): FoundNode | undefined {
  let stats: BigIntStats;
  try {
    stats = statSync(path, { bigint: true });
  } catch (cause) {
    if (!isNeeded) {
      return undefined;
    }
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(
      `failed to stat CDI host device ${JSON.stringify(path)}: ${why}, want it there`,
      { cause },
    );
  }
  const type = typeOf(stats);
  return type && { type, ...splitDevice(stats.rdev), fileMode: Number(stats.mode & permissionBits) };
}

function typeOf(stats: BigIntStats): NodeType | undefined {
  if (stats.isCharacterDevice()) {
    return "c";
  }
  if (stats.isBlockDevice()) {
    return "b";
  }
  return stats.isFIFO() ? "p" : undefined;
}
