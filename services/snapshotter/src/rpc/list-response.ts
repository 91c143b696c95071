import { create } from "@bufbuild/protobuf";
import {
  type ListSnapshotsResponse,
  ListSnapshotsResponseSchema,
} from "@oci-worker/api/containerd/snapshots";
import { encodedResponse } from "@oci-worker/grpc/kept-response";
import { infoToProto, kindToProto } from "@oci-worker/snapshots/convert";
import type { Info } from "@oci-worker/snapshots/snapshotter";

// What begins a field: its number, and its type in the lower three bits (protobuf.dev, "Encoding"); the numbers are those of
// proto/containerd/services/snapshots/v1/snapshots.proto.
const VARINT = 0;
const LEN = 2;
const infoField = (1 << 3) | LEN;
const nameField = (1 << 3) | LEN;
const parentField = (2 << 3) | LEN;
const kindField = (3 << 3) | VARINT;
const createdAtField = (4 << 3) | LEN;
const updatedAtField = (5 << 3) | LEN;
const labelsField = (6 << 3) | LEN;
const labelKeyField = (1 << 3) | LEN;
const labelValueField = (2 << 3) | LEN;
const secondsField = (1 << 3) | VARINT;
const nanosField = (2 << 3) | VARINT;

/** So much an info takes beside its texts, at most; and each of its labels. */
const infoBytes = 96;
const labelBytes = 32;

/** A character takes so many bytes at most: one that takes four is two characters of a JavaScript string. */
const maxCharBytes = 3;

const nanosPerSecond = 1_000_000_000n;

/**
 * The response to List that tells of `infos`.
 *
 * A client that starts has everything listed, and an info is made of a dozen parts: to encode thousands of them as messages
 * would take the larger part of its start. So they are written to the wire as they are.
 */
export function listResponse(infos: readonly Info[]): ListSnapshotsResponse {
  if (infos.some(({ createdAtNs, updatedAtNs }) => createdAtNs < 0n || updatedAtNs < 0n)) {
    // Numbers below zero have an encoding of their own. They are of machines that have lost their clock.
    return create(ListSnapshotsResponseSchema, { info: infos.map(infoToProto) });
  }
  const writer = new Writer(infos.reduce((sum, info) => sum + maxBytes(info), 0));
  for (const info of infos) {
    const start = writer.begin(infoField);
    writeInfo(writer, info);
    writer.end(start);
  }
  return encodedResponse(ListSnapshotsResponseSchema, writer.written);
}

function maxBytes({ name, parent = "", labels }: Info): number {
  let bytes = infoBytes + maxCharBytes * (name.length + parent.length);
  for (const key of Object.keys(labels)) {
    bytes += labelBytes + maxCharBytes * (key.length + (labels[key] ?? "").length);
  }
  return bytes;
}

function writeInfo(
  writer: Writer,
  { name, parent = "", kind, createdAtNs, updatedAtNs, labels }: Info,
): void {
  writer.text(nameField, name);
  writer.text(parentField, parent);
  writer.number(kindField, kindToProto(kind));
  writeTime(writer, createdAtField, createdAtNs);
  writeTime(writer, updatedAtField, updatedAtNs);
  for (const key of Object.keys(labels)) {
    const start = writer.begin(labelsField);
    writer.text(labelKeyField, key);
    writer.text(labelValueField, labels[key] ?? "");
    writer.end(start);
  }
}

function writeTime(writer: Writer, field: number, ns: bigint): void {
  const start = writer.begin(field);
  const seconds = ns / nanosPerSecond;
  writer.number(secondsField, Number(seconds));
  writer.number(nanosField, Number(ns - seconds * nanosPerSecond));
  writer.end(start);
}

/** Writes fields one after the other. */
class Writer {
  readonly #bytes: Buffer;
  #offset = 0;

  /** @param size of all that will be written, at most. */
  constructor(size: number) {
    this.#bytes = Buffer.allocUnsafe(size);
  }

  get written(): Buffer {
    return this.#bytes.subarray(0, this.#offset);
  }

  /** Begins a field that holds what is written until {@link end}. @returns what that is to be told. */
  begin(field: number): number {
    this.#varint(field);
    // Its length is not known yet. Most are short, and take one byte.
    this.#offset += 1;
    return this.#offset;
  }

  end(start: number): void {
    const length = this.#offset - start;
    const lengthBytes = varintBytes(length);
    if (lengthBytes > 1) {
      this.#bytes.copyWithin(start + lengthBytes - 1, start, this.#offset);
    }
    this.#offset = start - 1;
    this.#varint(length);
    this.#offset += length;
  }

  /** An empty one is left out. */
  text(field: number, text: string): void {
    if (text !== "") {
      const start = this.begin(field);
      this.#offset += this.#bytes.write(text, start);
      this.end(start);
    }
  }

  /** Zero is left out. */
  number(field: number, value: number): void {
    if (value !== 0) {
      this.#varint(field);
      this.#varint(value);
    }
  }

  #varint(value: number): void {
    let left = value;
    while (left >= 0x80) {
      this.#bytes[this.#offset++] = (left % 0x80) | 0x80;
      left = Math.floor(left / 0x80);
    }
    this.#bytes[this.#offset++] = left;
  }
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let left = value; left >= 0x80; left = Math.floor(left / 0x80)) {
    bytes += 1;
  }
  return bytes;
}
