/** How a blob is compressed. */
export type Compression = "gzip" | "zstd" | "none";

/** How many bytes {@link detectCompression} wants to see. */
export const magicBytes = 4;

/** The first byte is any of 0x50 to 0x5f (RFC 8878, 3.1.2). */
const zstdSkippableMask = 0xffff_fff0;
const [zstdMagic, zstdSkippableMagic] = [0xfd2f_b528, 0x184d_2a50];

/**
 * Tells from its first bytes how a blob is compressed.
 *
 * From nothing else: media types lie, and Docker has written some that never said. What is neither gzip (RFC 1952) nor
 * zstd (RFC 8878) is taken for a plain archive, as everywhere.
 */
export function detectCompression(start: Buffer): Compression {
  if (start.length >= 3 && start[0] === 0x1f && start[1] === 0x8b && start[2] === 8) {
    return "gzip";
  }
  if (start.length >= magicBytes) {
    const magic = start.readUInt32LE(0);
    if (magic === zstdMagic || (magic & zstdSkippableMask) >>> 0 === zstdSkippableMagic) {
      return "zstd";
    }
  }
  return "none";
}
