import type { TarMember } from "@oci-worker/layer/tar/writer";

const modifiedNs = 1_600_000_000_123_456_789n;

/** Several chunks, the same each time. */
export const big = Buffer.from(Array.from({ length: 60_000 }, (_, index) => `line ${index}`).join("\n"));

/** Everything that a layer can have. Each directory is named, so that its time is not that of the unpack. */
export const members: readonly TarMember[] = [
  { type: "directory", name: "data", mode: 0o750, uid: 5, gid: 6, modifiedNs },
  { type: "file", name: "data/big", content: big, mode: 0o640, uid: 7, gid: 8, modifiedNs },
  { type: "file", name: "data/empty", modifiedNs },
  { type: "hard link", name: "data/linked", linkName: "data/big", mode: 0o640, uid: 7, gid: 8, modifiedNs },
  { type: "symlink", name: "data/pointed", linkName: "big", modifiedNs },
  { type: "file", name: "data/program", mode: 0o4711, content: Buffer.from("x"), modifiedNs },
  {
    type: "file",
    name: "data/noted",
    content: Buffer.from("y"),
    xattrs: { "user.note": Buffer.from([1, 0, 255]) },
    modifiedNs,
  },
  { type: "fifo", name: "data/pipe", modifiedNs },
  { type: "character device", name: "data/null", deviceMajor: 1, deviceMinor: 3, mode: 0o666, modifiedNs },
  { type: "directory", name: "data/sticky", mode: 0o1777, modifiedNs },
  { type: "file", name: `data/${"n".repeat(200)}ä`, content: Buffer.from("long"), modifiedNs },
  { type: "directory", name: "bin", modifiedNs },
  { type: "file", name: "bin/.wh.yes" },
  { type: "directory", name: "tmp", mode: 0o1777, modifiedNs },
  { type: "file", name: "tmp/.wh..wh..opq" },
];

/** Layers that add, replace and hide, and one that comes twice. */
export function changingLayers(count: number): readonly (readonly TarMember[])[] {
  return Array.from({ length: count }, (_, index) => {
    const number = index % (count - 1);
    return [
      { type: "directory", name: "many", modifiedNs },
      { type: "file", name: "many/replaced", content: Buffer.from(`by layer ${number}`), modifiedNs },
      { type: "file", name: `many/of-${number}`, content: Buffer.from(`${number}`), modifiedNs },
      { type: "file", name: `many/.wh.of-${number - 1}` },
    ];
  });
}
