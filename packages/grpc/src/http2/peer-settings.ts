import {
  ConnectionError,
  defaultFrameBytes,
  defaultWindowBytes,
  ErrorCode,
  maxWindowBytes,
  Setting,
  uint32,
} from "./protocol.ts";

const settingBytes = 6;
const defaultTableBytes = 4096;
const maxFrameBytes = 2 ** 24 - 1;

/** What the peer wants us to heed; at first what RFC 9113, section 6.5.2, says of one that has said nothing. */
export class PeerSettings {
  /** What we may send on a new stream before we are told more. */
  initialWindowBytes = defaultWindowBytes;
  /** The largest frame that it takes. */
  frameBytes = defaultFrameBytes;
  /**
   * It has taken away from the table that our header blocks may use, and waits to be told that we know (RFC 7541, section
   * 4.2).
   */
  wantsTableUpdate = false;
  #tableBytes = defaultTableBytes;

  /**
   * Takes over the parameters of a SETTINGS frame, which `bytes` has from `start` to `end`. Those that concern no server,
   * and unknown ones, are left alone.
   *
   * @throws {ConnectionError} if one has a value that it must not have.
   */
  apply(bytes: Buffer, start: number, end: number): void {
    if ((end - start) % settingBytes !== 0) {
      throw new ConnectionError(ErrorCode.frameSizeError, "SETTINGS end inside a setting");
    }
    for (let offset = start; offset < end; offset += settingBytes) {
      const name = ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0);
      this.#set(name, uint32(bytes, offset + 2));
    }
  }

  #set(name: number, value: number): void {
    switch (name) {
      case Setting.headerTableSize:
        this.wantsTableUpdate ||= value < this.#tableBytes;
        this.#tableBytes = Math.min(this.#tableBytes, value);
        break;
      case Setting.enablePush:
        check(name, value, value <= 1, ErrorCode.protocolError);
        break;
      case Setting.initialWindowSize:
        check(name, value, value <= maxWindowBytes, ErrorCode.flowControlError);
        this.initialWindowBytes = value;
        break;
      case Setting.maxFrameSize:
        check(name, value, value >= defaultFrameBytes && value <= maxFrameBytes, ErrorCode.protocolError);
        this.frameBytes = value;
        break;
    }
  }
}

function check(name: number, value: number, isRight: boolean, code: ErrorCode): void {
  if (!isRight) {
    throw new ConnectionError(code, `setting ${name} is ${value}, which it must not be`);
  }
}
