import { ftruncateSync, readSync, writeSync } from "node:fs";
import { copyFileRange, seekData, seekHole, seekTo } from "@oci-worker/libc/file";
import { failedWith } from "./open-directory.ts";

/** The kernel takes no more at once than fits a signed 32-bit number; this much keeps a copy cancellable. */
const maxRangeBytes = 256 * 1024 * 1024;

const bufferBytes = 1024 * 1024;

/**
 * Copies `sizeBytes` of the file `from` into the empty file `to`, holes as holes. The file system shares the blocks
 * where it can.
 *
 * @param allocatedBytes what the file takes up on disk: less than its size if it has holes.
 */
export function copyContent(from: number, to: number, sizeBytes: number, allocatedBytes: number): void {
  if (allocatedBytes >= sizeBytes) {
    // Both are at their beginning.
    copyHere(from, to, 0, sizeBytes);
    return;
  }
  for (let offset = 0; offset < sizeBytes; ) {
    const data = nextData(from, offset);
    if (data === undefined) {
      break;
    }
    const hole = Math.min(seekHole(from, data), sizeBytes);
    seekTo(from, data);
    seekTo(to, data);
    copyHere(from, to, data, hole - data);
    offset = hole;
  }
  ftruncateSync(to, sizeBytes);
}

/** The next data at or after `offset`, or undefined if there is only a hole. */
function nextData(fd: number, offset: number): number | undefined {
  try {
    return seekData(fd, offset);
  } catch (error) {
    if (failedWith(error, "ENXIO")) {
      return undefined;
    }
    throw error;
  }
}

/** Copies `length` bytes from where both files are, which is `offset`; fewer if there are no more. */
function copyHere(from: number, to: number, offset: number, length: number): void {
  for (let done = 0; done < length; ) {
    let copied: number;
    try {
      copied = copyFileRange(from, to, Math.min(length - done, maxRangeBytes));
    } catch (error) {
      if (!isUnsupported(error)) {
        throw error;
      }
      copyThroughBuffer(from, to, offset + done, length - done);
      return;
    }
    if (copied === 0) {
      return;
    }
    done += copied;
  }
}

/** How file systems say that they cannot copy in the kernel (copy_file_range(2)). */
function isUnsupported(error: unknown): boolean {
  return ["EINVAL", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EXDEV"].some((code) => failedWith(error, code));
}

function copyThroughBuffer(from: number, to: number, offset: number, length: number): void {
  const buffer = Buffer.allocUnsafe(Math.min(bufferBytes, length));
  for (let done = 0; done < length; ) {
    const wanted = Math.min(buffer.length, length - done);
    const read = readSync(from, buffer, 0, wanted, offset + done);
    if (read === 0) {
      return;
    }
    for (let written = 0; written < read; ) {
      written += writeSync(to, buffer, written, read - written, offset + done + written);
    }
    done += read;
  }
}
