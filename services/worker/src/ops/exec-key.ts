import { type ExecOp, type Mount, MountType } from "@oci-worker/api/buildkit/llb";
import type { Platform } from "@oci-worker/oci/platform";

/** Changes when the same operation would from now on make something else. */
const keyVersion = "oci-worker.exec.v1";

/** What a mount is besides its place. What a secret or a cache holds is no part of it, as it is no part of the result. */
function mountOptions({ mountType, TmpfsOpt, cacheOpt, secretOpt, SSHOpt }: Mount): unknown {
  switch (mountType) {
    case MountType.TMPFS:
      return ["tmpfs", String(TmpfsOpt?.size ?? 0n)];
    case MountType.CACHE:
      return ["cache", cacheOpt?.ID, cacheOpt?.sharing];
    case MountType.SECRET:
      return ["secret", secretOpt?.ID, secretOpt?.uid, secretOpt?.gid, secretOpt?.mode];
    case MountType.SSH:
      return ["ssh", SSHOpt?.ID, SSHOpt?.uid, SSHOpt?.gid, SSHOpt?.mode];
    default:
      return mountType;
  }
}

/**
 * What identifies the result of a command, as a text: everything that may change it, and nothing else.
 *
 * Proxy settings and the addresses of extra hosts are left out, as upstream does: they say how to reach the outside,
 * not what is made.
 */
export function execKey(op: ExecOp, platform: Platform, inputKeys: readonly string[]): string {
  const { meta } = op;
  return JSON.stringify([
    keyVersion,
    [platform.os, platform.architecture, platform.variant ?? ""],
    [op.network, op.security],
    [
      meta?.args,
      meta?.env,
      meta?.cwd,
      meta?.user,
      meta?.hostname,
      meta?.cgroupParent,
      meta?.extraHosts.map(({ Host }) => Host),
      meta?.ulimit.map(({ Name, Soft, Hard }) => [Name, String(Soft), String(Hard)]),
    ],
    op.mounts.map((mount) => [
      mount.input < 0n ? "" : inputKeys[Number(mount.input)],
      mount.selector,
      mount.dest,
      String(mount.output),
      mount.readonly,
      mountOptions(mount),
    ]),
    op.secretenv.map(({ ID, name }) => [ID, name]),
    meta?.validExitCodes,
    meta?.removeMountStubsRecursive,
    // Which devices, and not what their specifications say of them, as upstream.
    ...(op.cdiDevices.length > 0 ? [op.cdiDevices.map(({ name }) => name)] : []),
  ]);
}
