import { type ExecOp, MountType } from "@oci-worker/api/buildkit/llb";
import { type Digest, digestOf } from "@oci-worker/oci/digest";
import type { Platform } from "@oci-worker/oci/platform";

/** Changes when the same operation would from now on make something else. */
const keyVersion = "oci-worker.exec.v1";

/**
 * What identifies the result of a command: everything that may change it, and nothing else.
 *
 * Proxy settings and the addresses of extra hosts are left out, as upstream does: they say how to reach the outside,
 * not what is made.
 */
export function execKey(op: ExecOp, platform: Platform, inputKeys: readonly string[]): Digest {
  const { meta } = op;
  return digestOf(
    JSON.stringify([
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
        mount.mountType === MountType.TMPFS ? ["tmpfs", String(mount.TmpfsOpt?.size ?? 0n)] : mount.mountType,
      ]),
    ]),
  );
}
