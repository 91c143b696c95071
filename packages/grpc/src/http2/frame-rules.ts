import { ConnectionError, ErrorCode, FrameType } from "./protocol.ts";

/** What a type of frame must be like (RFC 9113, section 6). */
interface Rule {
  /** It is about a stream, or about the connection; undefined if it may be either. */
  readonly isOfStream?: boolean;
  /** The one length that its payload may have. */
  readonly bytes?: number;
}

const ofStream = { isOfStream: true };

const rules: ReadonlyMap<number, Rule> = new Map<number, Rule>([
  [FrameType.data, ofStream],
  [FrameType.headers, ofStream],
  [FrameType.priority, { isOfStream: true, bytes: 5 }],
  [FrameType.rstStream, { isOfStream: true, bytes: 4 }],
  [FrameType.settings, { isOfStream: false }],
  [FrameType.ping, { isOfStream: false, bytes: 8 }],
  [FrameType.goaway, { isOfStream: false }],
  [FrameType.windowUpdate, { bytes: 4 }],
  [FrameType.continuation, ofStream],
]);

/**
 * Checks what can be checked of a frame without knowing what came before.
 *
 * @throws {ConnectionError} if it is wrong. That is more than the RFC asks for where only a stream would be concerned, and
 *   it allows it.
 */
export function checkFrame(type: number, streamID: number, length: number): void {
  if (type === FrameType.pushPromise) {
    throw new ConnectionError(ErrorCode.protocolError, "a client promises a push");
  }
  const rule = rules.get(type);
  if (rule === undefined) {
    return;
  }
  if (rule.isOfStream !== undefined && rule.isOfStream !== (streamID !== 0)) {
    throw new ConnectionError(
      ErrorCode.protocolError,
      `a frame of type ${type} is about ${streamID === 0 ? "no stream" : "a stream"}`,
    );
  }
  if (rule.bytes !== undefined && rule.bytes !== length) {
    throw new ConnectionError(
      ErrorCode.frameSizeError,
      `a frame of type ${type} has ${length} bytes, want ${rule.bytes}`,
    );
  }
}
