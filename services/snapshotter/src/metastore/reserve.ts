import { closeSync, openSync, renameSync, rmSync, statfsSync, statSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { allocate } from "@oci-worker/libc/file";
import { isFullDisk } from "../host-failure.ts";

/** Twice what the log of SQLite grows to before it begins again (sqlite.org/wal.html: 1000 pages of 4096 bytes). */
const maxReserveBytes = 8 * 1024 * 1024;

/** Of a small disk no more than this part of it. */
const maxFraction = 16;

/** What a start needs: the log and the index of SQLite, and some directories for a trial of the backend. */
const startBytes = 1024 * 1024;

/**
 * Room on the disk that is kept for removals, and for a start.
 *
 * A removal is a write, too. On a disk that is full to the last block it would fail like any other, and what fills the disk
 * could never be removed.
 */
export class Reserve {
  readonly #path: string;
  readonly #bytes: number;
  #held: boolean;

  /**
   * Takes up the room, in the file `path`, unless it is taken already. If the disk is full it is given up instead, because
   * the program that starts needs some.
   */
  constructor(path: string) {
    const { blocks, bavail, bsize } = statfsSync(dirname(path));
    this.#path = path;
    this.#bytes = Math.min(maxReserveBytes, Math.floor(blocks / maxFraction) * bsize);
    this.#held = statSync(path, { throwIfNoEntry: false })?.size === this.#bytes;
    if (bavail * bsize < Math.min(startBytes, this.#bytes)) {
      this.release();
      return;
    }
    try {
      this.restore();
    } catch (error) {
      if (!isFullDisk(error)) {
        throw error;
      }
    }
  }

  /** Gives the room up. @returns whether there was any. */
  release(): boolean {
    const held = this.#held;
    this.#held = false;
    rmSync(this.#path, { force: true });
    return held;
  }

  /**
   * Takes the room up again, if it was given up.
   *
   * @throws ENOSPC if there is not enough.
   */
  restore(): void {
    if (this.#held) {
      return;
    }
    const temporary = `${this.#path}.new`;
    try {
      takeRoom(temporary, this.#bytes);
      renameSync(temporary, this.#path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
    this.#held = true;
  }
}

function takeRoom(path: string, bytes: number): void {
  const fd = openSync(path, "w", 0o600);
  try {
    allocate(fd, bytes);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EOPNOTSUPP")) {
      throw error;
    }
    // No zeros: for those a file system that compresses, or knows holes, would keep no room.
    writeSync(fd, Float64Array.from({ length: bytes / Float64Array.BYTES_PER_ELEMENT }, Math.random));
  } finally {
    closeSync(fd);
  }
}
