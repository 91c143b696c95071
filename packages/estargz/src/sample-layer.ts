import { type TarMember, writeTar } from "@oci-worker/layer/tar/writer";
import { type BuildOptions, type BuiltLayer, buildLayer } from "./build/build.ts";

/** A layer for tests, as an archive. */
export async function archiveOf(members: Iterable<TarMember>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(writeTar(members, { exactTimes: true })));
}

/** Builds a layer of `archive`, which comes in pieces, and keeps it in memory. */
export async function built(
  archive: Buffer,
  options: BuildOptions = {},
): Promise<BuiltLayer & { blob: Buffer }> {
  const pieceBytes = 10_000;
  const pieces = Array.from({ length: Math.ceil(archive.length / pieceBytes) }, (_, index) =>
    archive.subarray(index * pieceBytes, (index + 1) * pieceBytes),
  );
  const written: Buffer[] = [];
  const layer = await buildLayer(
    { pieces, sizeBytes: archive.length },
    async (bytes) => written.push(bytes),
    options,
  );
  return { ...layer, blob: Buffer.concat(written) };
}

/** Bytes that do not compress, the same ones each time. */
export function noise(sizeBytes: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  let state = seed >>> 0;
  for (let at = 0; at < sizeBytes; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** What gives ping the right to send its packets (linux/capability.h, vfs_cap_data, revision 2). */
const netRaw = Buffer.from("0100000200200000000000000000000000000000", "hex");

/** Something of everything that a layer can have. */
export const sampleMembers: readonly TarMember[] = [
  { type: "directory", name: "etc", mode: 0o750, uid: 10, gid: 20, modifiedNs: 1_600_000_000_123_456_789n },
  {
    type: "file",
    name: "etc/hosts",
    content: Buffer.from("127.0.0.1 localhost\n"),
    modifiedNs: 1_500_000_000n * 10n ** 9n,
  },
  { type: "file", name: "etc/empty" },
  { type: "file", name: "bin/su", mode: 0o4755, content: noise(10_000) },
  { type: "hard link", name: "bin/su2", linkName: "bin/su" },
  { type: "symlink", name: "bin/sh", linkName: "/bin/busybox" },
  { type: "file", name: "lib/big", content: noise(300_000, 7) },
  { type: "file", name: "lib/zeros", content: Buffer.alloc(200_000) },
  { type: "character device", name: "dev/null", deviceMajor: 1, deviceMinor: 3, mode: 0o666 },
  { type: "block device", name: "dev/sda", deviceMajor: 8, deviceMinor: 0, uid: 3_000_000 },
  { type: "fifo", name: "run/pipe" },
  { type: "file", name: `long/${"n".repeat(200)}/${"ü".repeat(100)}`, content: Buffer.from("long name") },
  {
    type: "file",
    name: "bin/ping",
    content: Buffer.from("ping"),
    xattrs: { "security.capability": netRaw, "user.note": Buffer.from("x") },
  },
  { type: "file", name: "var/.wh.gone" },
  { type: "file", name: "opt/.wh..wh..opq" },
  { type: "file", name: "opt/new", content: Buffer.from("new") },
];
