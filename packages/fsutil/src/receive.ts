import { mkdir, realpath } from "node:fs/promises";
import { type Packet, Packet_PacketType as PacketType, type Stat } from "@oci-worker/api/session/fsutil";
import {
  AbortedError,
  InvalidArgumentError,
  ResourceExhaustedError,
  ServiceError,
  UnknownError,
} from "@oci-worker/errdefs";
import { type FileType, fileTypeOf } from "./mode.ts";
import type { PacketStream } from "./packet-stream.ts";
import { EntryOrder, requireCleanPath } from "./path.ts";
import { Queue } from "./queue.ts";
import { textOf } from "./send.ts";
import { TreeWriter } from "./tree-writer.ts";
import type { SkippedXattr } from "./xattrs.ts";

export interface ReceiveOptions {
  /** `sender` gives entries the owner that the sender says; `self` leaves them our own, which needs no privilege. */
  readonly owner: "sender" | "self";
  /** Told how many bytes of content have come so far. */
  readonly onProgress?: (receivedBytes: number) => void;
  /** Most entries that are taken. */
  readonly maxEntries?: number;
}

export interface ReceivedTree {
  readonly entries: number;
  readonly contentBytes: number;
  /** Attributes that were left out: the first of them, if there are very many. */
  readonly skippedXattrs: readonly SkippedXattr[];
}

/** We remember the path of every file, since a later entry may link to it: some hundred bytes each. */
const defaultMaxEntries = 2_000_000;

/** Longest target of a symbolic link: PATH_MAX without its NUL, in bytes. */
const maxTargetBytes = 4095;

/** The largest major and minor number that Linux has (linux/kdev_t.h: 12 and 20 bits). */
const maxMajor = 0xfffn;
const maxMinor = 0xf_ffffn;

/** Files that are asked for at a time. Each is open until it is complete. */
const maxOpenFiles = 128;

/**
 * Receives a tree over `stream` and writes it into `directory`, which is made if it is not there. What is in it and is
 * not sent stays.
 *
 * The sender is not trusted: nothing that it says leads out of the directory or through a symbolic link in it. When it
 * fails, what this transfer has made is removed.
 *
 * @throws {InvalidArgumentError} naming the entry, if the sender breaks the protocol or sends a bad entry.
 * @throws {ResourceExhaustedError} if there are too many entries.
 * @throws {FailedPreconditionError} if a file would take the place of a directory that is not empty.
 * @throws {UnknownError} with the sender's own words if it gives up.
 */
export async function receiveTree(
  stream: PacketStream,
  directory: string,
  options: ReceiveOptions,
): Promise<ReceivedTree> {
  try {
    await mkdir(directory, { recursive: true });
    using writer = new TreeWriter(await realpath(directory), options.owner === "sender");
    return await new Receiver(stream, writer, options).run();
  } catch (error) {
    const text = error instanceof ServiceError ? error.message : "Cannot receive files";
    await stream
      .send({ type: PacketType.PACKET_ERR, data: Buffer.from(text) })
      // It has gone, or it knows already.
      .catch(() => undefined);
    throw error;
  }
}

class Receiver {
  readonly #stream: PacketStream;
  readonly #writer: TreeWriter;
  readonly #options: ReceiveOptions;
  readonly #order = new EntryOrder();
  /** Paths that a hard link may name. */
  readonly #linkable = new Set<string>();
  /** Files that have not been asked for yet. */
  readonly #waiting = new Queue<{ readonly id: number; readonly stat: Stat }>();
  #entries = 0;
  #contentBytes = 0;
  #openFiles = 0;
  #described = false;
  #finished = false;

  constructor(stream: PacketStream, writer: TreeWriter, options: ReceiveOptions) {
    this.#stream = stream;
    this.#writer = writer;
    this.#options = options;
  }

  async run(): Promise<ReceivedTree> {
    for (;;) {
      const { done, value } = await this.#stream.incoming.next();
      if (done === true) {
        throw new AbortedError("Cannot receive files: the sender ended the transfer before it was complete");
      }
      if (await this.#take(value as Packet)) {
        const { skippedXattrs } = this.#writer;
        return { entries: this.#entries, contentBytes: this.#contentBytes, skippedXattrs };
      }
      await this.#goOn();
    }
  }

  /** @returns true with the last packet of a transfer. */
  async #take(packet: Packet): Promise<boolean> {
    switch (packet.type) {
      case PacketType.PACKET_STAT:
        this.#addEntry(packet.stat);
        return false;
      case PacketType.PACKET_DATA:
        this.#addContent(packet.ID, packet.data);
        return false;
      case PacketType.PACKET_FIN:
        if (!this.#finished) {
          throw new InvalidArgumentError("Cannot receive files: the sender ended before we had everything");
        }
        return true;
      case PacketType.PACKET_ERR:
        throw new UnknownError(`Cannot receive files: error from sender: ${textOf(packet.data)}`);
      default:
        throw new InvalidArgumentError(
          `Cannot receive files: the sender sent a packet of type ${packet.type}`,
        );
    }
  }

  /** Asks for files as long as few are open, and ends the transfer when all are here. */
  async #goOn(): Promise<void> {
    while (this.#openFiles < maxOpenFiles) {
      const next = this.#waiting.shift();
      if (next === undefined) {
        break;
      }
      this.#openFiles += 1;
      this.#writer.openFile(next.id, next.stat);
      await this.#stream.send({ type: PacketType.PACKET_REQ, ID: next.id });
    }
    if (this.#described && !this.#finished && this.#openFiles === 0) {
      this.#finished = true;
      this.#writer.finish();
      await this.#stream.send({ type: PacketType.PACKET_FIN });
    }
  }

  /** @param stat undefined says that there are no more entries. */
  #addEntry(stat: Stat | undefined): void {
    if (this.#described) {
      throw new InvalidArgumentError("Cannot receive files: an entry came after the last one");
    }
    if (stat === undefined) {
      this.#described = true;
      return;
    }
    const { maxEntries = defaultMaxEntries } = this.#options;
    if (this.#entries >= maxEntries) {
      throw new ResourceExhaustedError(`Cannot receive files: want at most ${maxEntries} entries`);
    }
    const type = this.#check(stat);
    if (type === "file") {
      this.#waiting.push({ id: this.#entries, stat });
    } else {
      this.#writer.add(type, stat);
    }
    this.#entries += 1;
  }

  /** @throws {InvalidArgumentError} if the entry may not come here. */
  #check(stat: Stat): FileType | "link" {
    try {
      requireCleanPath(stat.path);
      const type = fileTypeOf(stat.mode);
      this.#order.add(stat.path, type === "directory");
      return this.#checkType(type, stat);
    } catch (cause) {
      if (!(cause instanceof InvalidArgumentError)) {
        throw cause;
      }
      const path = JSON.stringify(stat.path.slice(0, 300));
      throw new InvalidArgumentError(`Cannot receive ${path}: ${cause.message}`, { cause });
    }
  }

  #checkType(type: FileType, { path, linkname, devmajor, devminor }: Stat): FileType | "link" {
    switch (type) {
      case "directory":
        return type;
      case "symlink":
        requireTarget(linkname);
        return type;
      case "file":
        if (linkname !== "") {
          this.#requireLinkable(linkname);
          return "link";
        }
        break;
      case "fifo":
        break;
      case "character-device":
      case "block-device":
        requireDeviceNumber(devmajor, devminor);
        break;
    }
    this.#linkable.add(path);
    return type;
  }

  #requireLinkable(target: string): void {
    if (!this.#linkable.has(target)) {
      const shown = JSON.stringify(target.slice(0, 300));
      throw new InvalidArgumentError(`it is a link to ${shown}, which is no file that came before it`);
    }
  }

  #addContent(id: number, data: Uint8Array): void {
    const isLast = data.length === 0;
    const known = isLast ? this.#writer.closeFile(id) : this.#writer.write(id, data);
    if (!known) {
      throw new InvalidArgumentError(
        `Cannot receive files: content came for entry ${id}, which we have not asked for or have in full`,
      );
    }
    if (isLast) {
      this.#openFiles -= 1;
    }
    this.#contentBytes += data.length;
    this.#options.onProgress?.(this.#contentBytes);
  }
}

function requireTarget(target: string): void {
  if (target === "" || target.includes("\0") || Buffer.byteLength(target) > maxTargetBytes) {
    throw new InvalidArgumentError(`it is a symbolic link to nothing that the kernel takes`);
  }
}

function requireDeviceNumber(major: bigint, minor: bigint): void {
  if (major < 0n || major > maxMajor || minor < 0n || minor > maxMinor) {
    throw new InvalidArgumentError(
      `its device number is ${major}:${minor}, want at most ${maxMajor}:${maxMinor}`,
    );
  }
}
