import { type FileTable, typeBits, typeMask } from "./file-table.ts";
import type { Layout } from "./layout.ts";
import { above, direntBytes, self } from "./listing.ts";

/** As directories tell the type of what they name (Linux, include/linux/fs_types.h, FT_*), by the bits of st_mode. */
const fileTypes = new Uint8Array(16);
for (const [kind, type] of [
  ["file", 1],
  ["directory", 2],
  ["character-device", 3],
  ["block-device", 4],
  ["fifo", 5],
  ["socket", 6],
  ["symbolic-link", 7],
] as const) {
  fileTypes[typeBits[kind] >>> 12] = type;
}

const dot = 0x2e;

/**
 * Writes the names at the places `from` to `to` of the listing of `directory`, which fit into a block, at `offset` of
 * `image`, which is all zeros there.
 */
export function writeDirectoryBlock(
  { nameFiles, nameStarts, nameLengths, modes, texts }: FileTable,
  { listings, parents, slots }: Layout,
  { directory, from, to }: { readonly directory: number; readonly from: number; readonly to: number },
  image: Buffer,
  offset: number,
): void {
  const { names } = listings;
  let at = offset;
  let nameOffset = (to - from) * direntBytes;
  for (let place = from; place < to; place += 1) {
    const name = names[place] ?? 0;
    const file =
      name === self ? directory : name === above ? (parents[directory] ?? 0) : (nameFiles[name] ?? 0);
    const length = name < 0 ? -name : (nameLengths[name] ?? 0);
    const slot = slots[file] ?? 0;
    // The number has 64 bits, of which these are all that it takes.
    image[at] = slot;
    image[at + 1] = slot >>> 8;
    image[at + 2] = slot >>> 16;
    image[at + 3] = slot >>> 24;
    image[at + 8] = nameOffset;
    image[at + 9] = nameOffset >>> 8;
    image[at + 10] = fileTypes[((modes[file] ?? 0) & typeMask) >>> 12] ?? 0;
    const target = offset + nameOffset;
    const start = nameStarts[name] ?? 0;
    for (let index = 0; index < length; index += 1) {
      image[target + index] = name < 0 ? dot : (texts[start + index] ?? 0);
    }
    at += direntBytes;
    nameOffset += length;
  }
}
