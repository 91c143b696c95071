import { Duplex } from "node:stream";

/** A byte stream both ways over two message streams, such as the BytesMessages of BuildKit's Session call. */
export interface Tunnel {
  /** What an HTTP/2 session runs on. */
  readonly duplex: Duplex;
  /** The bytes that go to the peer, to be sent as messages. Ends when the duplex does. */
  readonly outgoing: AsyncIterable<Uint8Array>;
}

/**
 * Makes one byte stream of `incoming` and of what will be written.
 *
 * Back pressure holds both ways: `incoming` is read only as fast as the duplex is, and a write is done when its
 * bytes have been taken from `outgoing`. The end of either side ends the duplex.
 */
export function openTunnel(incoming: AsyncIterable<Uint8Array>): Tunnel {
  const source = incoming[Symbol.asyncIterator]();
  let written: PromiseWithResolvers<Uint8Array | undefined> = Promise.withResolvers();
  let taken: () => void = () => undefined;
  let reading = false;

  const duplex = new Duplex({
    read() {
      if (!reading) {
        reading = true;
        void pull();
      }
    },
    // HTTP/2 writes frame by frame; what has piled up goes out as one message.
    writev(chunks, callback) {
      taken = callback;
      const buffers = chunks.map(({ chunk }) => chunk as Buffer);
      written.resolve(buffers.length === 1 ? buffers[0] : Buffer.concat(buffers));
    },
    final(callback) {
      written.resolve(undefined);
      callback();
    },
    destroy(error, callback) {
      written.resolve(undefined);
      // Ends a source that is still waiting; what it throws while ending has no reader any more.
      source.return?.().catch(() => undefined);
      callback(error);
    },
  });

  duplex.once("end", () => duplex.destroy());

  async function pull(): Promise<void> {
    try {
      let wanted = true;
      while (wanted) {
        const { done, value } = await source.next();
        if (done === true) {
          duplex.push(null);
          return;
        }
        wanted = duplex.push(value);
      }
      reading = false;
    } catch (error) {
      duplex.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async function* drainWrites(): AsyncGenerator<Uint8Array, void> {
    try {
      for (;;) {
        const chunk = await written.promise;
        if (chunk === undefined) {
          return;
        }
        yield chunk;
        written = Promise.withResolvers();
        if (duplex.destroyed) {
          return;
        }
        taken();
      }
    } finally {
      duplex.destroy();
    }
  }

  return { duplex, outgoing: drainWrites() };
}
