import { type Packet, Packet_PacketType as PacketType } from "@oci-worker/api/session/fsutil";
import { AbortedError, InvalidArgumentError, UnknownError } from "@oci-worker/errdefs";
import type { FileTree } from "./directory-tree.ts";
import { hasContent } from "./mode.ts";
import type { PacketStream } from "./packet-stream.ts";
import { Queue } from "./queue.ts";

export interface SendOptions {
  /** Told how many bytes of content have gone out so far. */
  readonly onProgress?: (sentBytes: number) => void;
}

export interface SentTree {
  readonly entries: number;
  readonly contentBytes: number;
}

/** Content in one packet: what every receiver of the protocol expects at most. */
const chunkBytes = 32 * 1024;

/** Files that are sent at a time, their chunks mixed: one large file does not hold up the small ones. */
const concurrentFiles = 4;

/**
 * Sends `tree` over `stream`: first what its entries are, meanwhile and afterwards the content of those that the
 * receiver asks for, until it says that it has all it wants.
 *
 * @throws {InvalidArgumentError} if the receiver breaks the protocol.
 * @throws {UnknownError} with the receiver's own words if it gives up.
 * @throws whatever reading the tree throws; the receiver is told its message.
 */
export async function sendTree(
  stream: PacketStream,
  tree: FileTree,
  options: SendOptions = {},
): Promise<SentTree> {
  const sender = new Sender(stream, tree, options);
  try {
    return await sender.run();
  } catch (error) {
    await sender.giveUp(error);
    throw error;
  }
}

class Sender {
  readonly #stream: PacketStream;
  readonly #tree: FileTree;
  readonly #options: SendOptions;
  /** Paths of the files that have not been asked for, by the number of their entry. */
  readonly #offered = new Map<number, string>();
  readonly #wanted = new Queue<{ readonly id: number; readonly path: string }>();
  readonly #failed = Promise.withResolvers<never>();
  #entries = 0;
  #contentBytes = 0;
  #sending = 0;
  #walked = false;
  #stopped = false;

  constructor(stream: PacketStream, tree: FileTree, options: SendOptions) {
    this.#stream = stream;
    this.#tree = tree;
    this.#options = options;
  }

  async run(): Promise<SentTree> {
    // The three fail together: what one of them throws ends the call, and that ends the others.
    await Promise.all([Promise.race([this.#answer(), this.#failed.promise]), this.#walk()]);
    await this.#stream.send({ type: PacketType.PACKET_FIN });
    return { entries: this.#entries, contentBytes: this.#contentBytes };
  }

  /** Tells the receiver that nothing more will come, unless it is gone itself. */
  async giveUp(error: unknown): Promise<void> {
    this.#stopped = true;
    const text = error instanceof Error ? error.message : String(error);
    await this.#stream.send({ type: PacketType.PACKET_ERR, data: Buffer.from(text) }).catch(() => undefined);
  }

  async #walk(): Promise<void> {
    for (const stat of this.#tree.entries()) {
      if (this.#stopped) {
        return;
      }
      if (hasContent(stat.mode) && stat.linkname === "") {
        this.#offered.set(this.#entries, stat.path);
      }
      this.#entries += 1;
      await this.#stream.send({ type: PacketType.PACKET_STAT, stat });
    }
    this.#walked = true;
    await this.#stream.send({ type: PacketType.PACKET_STAT });
  }

  /** Does what the receiver says until it has said that it is done. */
  async #answer(): Promise<void> {
    for (;;) {
      const { done, value } = await this.#stream.incoming.next();
      if (done === true) {
        throw new AbortedError("Cannot send files: the receiver ended the transfer before it was complete");
      }
      const packet = value as Packet;
      switch (packet.type) {
        case PacketType.PACKET_REQ:
          this.#request(packet.ID);
          break;
        case PacketType.PACKET_FIN:
          this.#requireComplete();
          return;
        case PacketType.PACKET_ERR:
          throw new UnknownError(`Cannot send files: error from receiver: ${textOf(packet.data)}`);
        default:
          throw new InvalidArgumentError(
            `Cannot send files: the receiver sent a packet of type ${packet.type}`,
          );
      }
    }
  }

  #request(id: number): void {
    const path = this.#offered.get(id);
    if (path === undefined) {
      throw new InvalidArgumentError(
        `Cannot send files: the receiver asked for entry ${id}, which is no file, not sent yet or asked for before`,
      );
    }
    this.#offered.delete(id);
    this.#wanted.push({ id, path });
    this.#sendNext();
  }

  #requireComplete(): void {
    if (!this.#walked || this.#sending > 0 || this.#wanted.length > 0) {
      throw new InvalidArgumentError(
        "Cannot send files: the receiver said it was done before it had what it asked for",
      );
    }
  }

  #sendNext(): void {
    const next = this.#sending < concurrentFiles && !this.#stopped ? this.#wanted.shift() : undefined;
    if (next === undefined) {
      return;
    }
    this.#sending += 1;
    this.#sendFile(next.id, next.path).catch(this.#failed.reject);
  }

  async #sendFile(id: number, path: string): Promise<void> {
    for await (const bytes of this.#tree.read(path)) {
      for (let offset = 0; offset < bytes.length; offset += chunkBytes) {
        if (this.#stopped) {
          return;
        }
        const data = bytes.subarray(offset, offset + chunkBytes);
        await this.#stream.send({ type: PacketType.PACKET_DATA, ID: id, data });
        this.#contentBytes += data.length;
        this.#options.onProgress?.(this.#contentBytes);
      }
    }
    // The receiver may answer this with the end of the transfer, so the file must count as sent before.
    this.#sending -= 1;
    await this.#stream.send({ type: PacketType.PACKET_DATA, ID: id });
    this.#sendNext();
  }
}

/** What a peer says of its failure, cut to a length that fits an error. */
export function textOf(data: Uint8Array): string {
  return Buffer.from(data.subarray(0, 2000)).toString();
}
