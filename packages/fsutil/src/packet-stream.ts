import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Packet, PacketSchema } from "@oci-worker/api/session/fsutil";
import { CanceledError } from "@oci-worker/errdefs";

export type PacketInit = MessageInitShape<typeof PacketSchema>;

/** Both directions of a transfer, whoever made the call that carries it. */
export interface PacketStream {
  /** Fails when the call does, which is how a transfer is aborted. */
  readonly incoming: AsyncIterator<Packet, unknown>;
  /**
   * Resolves when the next packet may follow.
   *
   * @throws {CanceledError} if nobody takes packets any more.
   */
  send(packet: PacketInit): Promise<void>;
}

/** One side of a transfer: `sendTree` or `receiveTree` with their arguments filled in. */
export type Transfer<T> = (stream: PacketStream) => Promise<T>;

/** Packets that wait to be taken before a sender has to wait. Of 32 KiB each at most. */
const highWater = 64;

/** How long the peer is given to hear our last packet and to end the call, in milliseconds. */
const farewellMs = 5000;

/**
 * Runs `transfer` as the answer to a call: return this from the handler of a streaming method.
 *
 * @param done told how it ended, since the handler's caller is the peer.
 */
export function answering<T>(
  incoming: AsyncIterable<Packet>,
  transfer: Transfer<T>,
  done: (result: T) => void = () => undefined,
): AsyncIterable<Packet> {
  const outgoing = new OutgoingPackets();
  const iterator = incoming[Symbol.asyncIterator]();
  transfer({ incoming: iterator, send: (packet) => outgoing.send(packet) }).then(
    (result) => {
      done(result);
      outgoing.end(undefined);
    },
    (error: unknown) => outgoing.end(error),
  );
  return outgoing;
}

/**
 * Runs `transfer` over a call that we make.
 *
 * @param open makes the call: it sends the packets it is given, returns those of the peer, and ends with the signal.
 * @param signal the caller's; aborting it ends the transfer.
 */
export async function calling<T>(
  open: (outgoing: AsyncIterable<Packet>, signal: AbortSignal) => AsyncIterable<Packet>,
  transfer: Transfer<T>,
  signal?: AbortSignal,
): Promise<T> {
  const outgoing = new OutgoingPackets();
  const over = new AbortController();
  const ends = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
  const incoming = open(outgoing, ends)[Symbol.asyncIterator]();
  try {
    return await transfer({ incoming, send: (packet) => outgoing.send(packet) });
  } finally {
    outgoing.end(undefined);
    await takeLeave(incoming);
    over.abort();
  }
}

/** Lets the peer end the call, so that our last packet is not cut off; a peer that does not is left. */
async function takeLeave(incoming: AsyncIterator<Packet, unknown>): Promise<void> {
  const patience = Promise.withResolvers<void>();
  const timer = setTimeout(patience.resolve, farewellMs);
  const drain = async () => {
    for (let last = await incoming.next(); last.done !== true; last = await incoming.next()) {}
  };
  // How the call ends says nothing new: the transfer itself has its result or its error.
  await Promise.race([drain().catch(() => undefined), patience.promise]);
  clearTimeout(timer);
}

/** Packets on their way out: put in by one side of a transfer, taken out by the call. */
class OutgoingPackets implements AsyncIterableIterator<Packet, undefined> {
  readonly #queue: Packet[] = [];
  #reader: PromiseWithResolvers<IteratorResult<Packet, undefined>> | undefined;
  #room: PromiseWithResolvers<void> | undefined;
  #ended = false;
  #error: unknown;

  async send(init: PacketInit): Promise<void> {
    if (this.#ended) {
      throw new CanceledError("Cannot send packet: the transfer has ended");
    }
    const packet = create(PacketSchema, init);
    if (this.#reader !== undefined) {
      this.#reader.resolve({ done: false, value: packet });
      this.#reader = undefined;
      return;
    }
    this.#queue.push(packet);
    if (this.#queue.length >= highWater) {
      this.#room ??= Promise.withResolvers();
      await this.#room.promise;
    }
  }

  /** No more packets come, because of `error` if there is one. Those that wait are still delivered. */
  end(error: unknown): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    this.#error = error;
    if (this.#reader !== undefined) {
      this.#finish(this.#reader);
      this.#reader = undefined;
    }
  }

  next(): Promise<IteratorResult<Packet, undefined>> {
    const packet = this.#queue.shift();
    if (packet !== undefined) {
      if (this.#room !== undefined && this.#queue.length < highWater / 2) {
        this.#room.resolve();
        this.#room = undefined;
      }
      return Promise.resolve({ done: false, value: packet });
    }
    const reader = Promise.withResolvers<IteratorResult<Packet, undefined>>();
    if (this.#ended) {
      this.#finish(reader);
    } else {
      this.#reader = reader;
    }
    return reader.promise;
  }

  /** The call has ended: what is left goes nowhere, and who waits for room is told. */
  return(): Promise<IteratorResult<Packet, undefined>> {
    this.#queue.length = 0;
    this.end(undefined);
    this.#error = undefined;
    this.#room?.reject(new CanceledError("Cannot send packet: the call has ended"));
    this.#room = undefined;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish(reader: PromiseWithResolvers<IteratorResult<Packet, undefined>>): void {
    const error = this.#error;
    this.#error = undefined;
    if (error === undefined) {
      reader.resolve({ done: true, value: undefined });
    } else {
      reader.reject(error);
    }
  }
}
