import type { Duplex } from "node:stream";
import { FrameHandler } from "./frame-handler.ts";
import { FrameReader } from "./frame-reader.ts";
import { Outbox } from "./outbox.ts";
import { ConnectionError, defaultFrameBytes, ErrorCode, maxStreamID } from "./protocol.ts";
import type { ServerStream } from "./server-stream.ts";

/** With so much that the client has not read, we do not read what it sends: most of it wants an answer. */
const maxUnsentBytes = 1024 * 1024;

/** A client that has not said so much as its settings by then is none. */
const greetingMs = 10_000;

/** How long a client may take to hear that it shall send no new calls, and to close when there are none. */
const partingMs = 1000;

const partingPing = Buffer.from("goodbye.", "latin1");

export interface ServerConnectionOptions {
  readonly duplex: Duplex;
  /** Takes a request. It sets the stream's sink at once. */
  readonly onStream: (stream: ServerStream) => void;
  /** Told why we end the connection before its time: a `ConnectionError`, or a mistake of ours. */
  readonly onFailure: (thrown: unknown) => void;
  /** Told when the connection is gone. */
  readonly onClose?: () => void;
}

/**
 * The server's side of an HTTP/2 connection (RFC 9113), on a socket or any other byte stream.
 *
 * It is made for many small calls: a stream is one plain object, a block of headers that came before is recognized by its
 * bytes, and what one read has brought is answered by one write. A client that breaks the protocol, or does too much of what
 * costs only us, loses its connection and is told why.
 */
export class ServerConnection {
  readonly #duplex: Duplex;
  readonly #outbox: Outbox;
  readonly #frames: FrameHandler;
  readonly #reader: FrameReader;
  readonly #onFailure: (thrown: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  /** "parting" has told the client to send no new calls, and "parted" does not take them any more. */
  #state: "open" | "parting" | "parted" | "ending" | "gone" = "open";

  constructor({ duplex, onStream, onFailure, onClose }: ServerConnectionOptions) {
    this.#duplex = duplex;
    this.#onFailure = onFailure;
    this.#outbox = new Outbox(duplex, defaultFrameBytes);
    this.#frames = new FrameHandler(this.#outbox, {
      onStream,
      onGreeting: () => this.#onGreeting(),
      onPong: (bytes, start) => this.#onPong(bytes, start),
      onIdle: () => this.#endIfParted(),
    });
    this.#reader = new FrameReader(this.#frames);
    this.#frames.greet();
    this.#timer = setTimeout(() => duplex.destroy(), greetingMs).unref();
    duplex.on("data", (chunk: Buffer) => this.#read(chunk));
    duplex.on("drain", () => this.#onDrain());
    // A client that can say nothing more cannot take anything either: it could not tell us so.
    duplex.on("end", () => duplex.destroy());
    // The `close` event follows. A connection that breaks concerns its peer alone, and calls are told by their streams.
    duplex.on("error", () => undefined);
    duplex.on("close", () => {
      this.#state = "gone";
      clearTimeout(this.#timer);
      this.#frames.streams.closeAll();
      onClose?.();
    });
  }

  /** Asks the client for no new calls, lets those that are open end, and closes. */
  drain(): void {
    if (this.#state !== "open") {
      return;
    }
    this.#state = "parting";
    // Calls that are under way to us are still taken. When the client has answered the ping, it has read that it shall
    // send no more (RFC 9113, section 6.8).
    this.#outbox.goaway(maxStreamID, ErrorCode.noError, "");
    this.#outbox.ping(0, partingPing, 0);
    this.#restartTimer(() => this.#part());
  }

  /** Ends everything at once. */
  destroy(): void {
    this.#duplex.destroy();
  }

  #read(chunk: Buffer): void {
    if (this.#state === "ending" || this.#state === "gone") {
      return;
    }
    try {
      this.#reader.push(chunk);
    } catch (thrown) {
      this.#fail(thrown);
    }
    if (this.#outbox.unsentBytes > maxUnsentBytes) {
      this.#duplex.pause();
    }
  }

  #onDrain(): void {
    this.#frames.resume();
    if (this.#outbox.unsentBytes <= maxUnsentBytes) {
      this.#duplex.resume();
    }
  }

  #onGreeting(): void {
    if (this.#state === "open") {
      clearTimeout(this.#timer);
    }
  }

  #onPong(bytes: Buffer, start: number): void {
    if (this.#state === "parting" && bytes.compare(partingPing, 0, 8, start, start + 8) === 0) {
      this.#part();
    }
  }

  #part(): void {
    if (this.#state === "parting") {
      clearTimeout(this.#timer);
      this.#state = "parted";
      this.#frames.streams.stop();
      this.#outbox.goaway(this.#frames.streams.lastID, ErrorCode.noError, "");
      this.#endIfParted();
    }
  }

  #endIfParted(): void {
    if (this.#state === "parted" && this.#frames.streams.count === 0) {
      this.#end();
    }
  }

  /** Ends our side after what is still to be said; the client's ends by itself, or is ended. */
  #end(): void {
    this.#state = "ending";
    clearTimeout(this.#timer);
    this.#outbox.flush();
    this.#duplex.end(() => this.#destroySoon());
  }

  #destroySoon(): void {
    if (this.#state === "ending") {
      this.#restartTimer(() => this.#duplex.destroy());
    }
  }

  #fail(thrown: unknown): void {
    // A mistake of ours costs this connection and no other.
    const isTheirs = thrown instanceof ConnectionError;
    const code = isTheirs ? thrown.code : ErrorCode.internalError;
    this.#outbox.goaway(this.#frames.streams.lastID, code, isTheirs ? thrown.message : "");
    this.#onFailure(thrown);
    this.#end();
    this.#destroySoon();
    this.#frames.streams.closeAll();
  }

  #restartTimer(action: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(action, partingMs).unref();
  }
}
