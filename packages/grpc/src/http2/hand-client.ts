import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { HpackDecoder } from "./hpack/decoder.ts";
import { encodeFields } from "./hpack/encoder.ts";
import { clientPreface, Flag, FrameType, frameHeaderBytes, uint31, uint32 } from "./protocol.ts";

/** A frame as it came. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamID: number;
  readonly payload: Buffer;
}

/** A frame's bytes. Nothing is checked. */
export function frameOf(
  type: number,
  flags: number,
  streamID: number,
  payload: Uint8Array = Buffer.alloc(0),
) {
  const header = Buffer.alloc(frameHeaderBytes);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(streamID, 5);
  return Buffer.concat([header, payload]);
}

/** Four bytes, as WINDOW_UPDATE and RST_STREAM have them. */
export function uint32Of(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A SETTINGS frame. */
export function settingsOf(...settings: [name: number, value: number][]): Buffer {
  const payload = settings.map(([name, value]) => {
    const bytes = Buffer.alloc(6);
    bytes.writeUInt16BE(name);
    bytes.writeUInt32BE(value, 2);
    return bytes;
  });
  return frameOf(FrameType.settings, 0, 0, Buffer.concat(payload));
}

/** The headers of a call of the echo service, with `more` after them. */
export function callOf(method: string, ...more: string[]): Buffer {
  return encodeFields([
    ...[":method", "POST", ":scheme", "http", ":path", `/echo.v1.Echo/${method}`, ":authority", "localhost"],
    ...["content-type", "application/grpc", "te", "trailers", ...more],
  ]);
}

/** HEADERS with a whole block. */
export function headersOf(streamID: number, block: Buffer, flags = 0): Buffer {
  return frameOf(FrameType.headers, Flag.endHeaders | flags, streamID, block);
}

/** A client for tests that says what it is told, right or wrong, and shows the frames that come back. */
export class HandClient implements Disposable {
  readonly socket: Socket;
  /** Reads the header blocks of the server, in the order in which they come. */
  readonly #decoder = new HpackDecoder(2 ** 20);
  readonly #frames: Frame[] = [];
  #bytes: Buffer = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  readonly #closed = Promise.withResolvers<void>();
  #isClosed = false;
  #marks = 0;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("close", () => {
      this.#isClosed = true;
      this.#closed.resolve();
      this.#wake();
    });
  }

  /** Connects, and says nothing yet. */
  static async connect(path: string): Promise<HandClient> {
    const client = new HandClient(connect(path));
    await once(client.socket, "connect");
    return client;
  }

  /** Connects, and exchanges settings. */
  static async open(path: string, settings: Buffer = settingsOf()): Promise<HandClient> {
    const client = await HandClient.connect(path);
    client.send(clientPreface, settings);
    await client.next(FrameType.settings, ({ flags }) => flags === Flag.ack);
    return client;
  }

  send(...frames: Buffer[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  /** The next frame of `type` that is `wanted`; those before it go to `dropped`. Fails if the connection ends first. */
  async next(
    type: number,
    wanted: (frame: Frame) => boolean = () => true,
    dropped: Frame[] = [],
  ): Promise<Frame> {
    for (;;) {
      const frame = this.#frames.shift();
      if (frame?.type === type && wanted(frame)) {
        return frame;
      }
      if (frame === undefined) {
        if (this.#isClosed) {
          throw new Error(`The connection has ended before a frame of type ${type}`);
        }
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#wake = resolve;
        await promise;
      } else {
        dropped.push(frame);
      }
    }
  }

  /** The fields of the next header block. */
  async nextFields(): Promise<readonly string[]> {
    const { payload } = await this.next(FrameType.headers);
    return this.#decoder.decode(payload, 0, payload.length).raw;
  }

  /** Waits until the server has handled all that was sent before. @returns what came meanwhile. */
  async settle(): Promise<readonly Frame[]> {
    this.#marks += 1;
    const mark = Buffer.from(`mark${String(this.#marks).padStart(4, "0")}`);
    this.send(frameOf(FrameType.ping, 0, 0, mark));
    const before: Frame[] = [];
    await this.next(FrameType.ping, (frame) => frame.payload.equals(mark), before);
    return before;
  }

  /** The code with which the server ends the connection. */
  async failure(): Promise<number> {
    const { payload } = await this.next(FrameType.goaway);
    return uint32(payload, 4);
  }

  /** The code with which the server ends the stream. */
  async reset(streamID: number): Promise<number> {
    const { payload } = await this.next(FrameType.rstStream, (frame) => frame.streamID === streamID);
    return uint32(payload, 0);
  }

  async closed(): Promise<void> {
    await this.#closed.promise;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    for (;;) {
      const end = frameHeaderBytes + (this.#bytes.length < 3 ? 0 : this.#bytes.readUIntBE(0, 3));
      if (this.#bytes.length < end) {
        break;
      }
      this.#frames.push({
        type: this.#bytes[3] ?? 0,
        flags: this.#bytes[4] ?? 0,
        streamID: uint31(this.#bytes, 5),
        payload: this.#bytes.subarray(frameHeaderBytes, end),
      });
      this.#bytes = this.#bytes.subarray(end);
    }
    this.#wake();
  }
}
