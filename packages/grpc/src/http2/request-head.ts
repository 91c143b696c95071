import type { FieldList } from "./hpack/decoder.ts";

/** Fields of HTTP/1.1 that speak of its connection (RFC 9113, section 8.2.2). */
const connectionFields: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

/** A token of RFC 9110 without upper-case letters. */
const validName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;

/** RFC 9113, section 8.2.1. */
const invalidValue = /[\0\r\n]|^[ \t]|[ \t]$/;

const requestPseudoFields: ReadonlySet<string> = new Set([":method", ":scheme", ":authority", ":path"]);

/** The headers of a request. */
export class RequestHead {
  /** Names and values in turns, in the order they came, those that begin with ":" too. */
  readonly raw: readonly string[];
  /** There were more headers than we keep. */
  readonly isTooLarge: boolean;
  readonly method: string;
  readonly path: string;
  /** The `content-length`, if there is one; NaN if it is no number. */
  readonly contentBytes: number | undefined;

  constructor({ raw, isTooLarge }: FieldList) {
    this.raw = raw;
    this.isTooLarge = isTooLarge;
    this.method = this.field(":method") ?? "";
    this.path = this.field(":path") ?? "";
    const length = this.field("content-length");
    this.contentBytes = length === undefined ? undefined : /^\d+$/.test(length) ? Number(length) : Number.NaN;
  }

  /** The first value of the header `name`, which is in lower case. */
  field(name: string): string | undefined {
    const { raw } = this;
    for (let index = 0; index < raw.length; index += 2) {
      if (raw[index] === name) {
        return raw[index + 1];
      }
    }
    return undefined;
  }
}

/**
 * What is wrong with the headers of a request (RFC 9113, sections 8.2 and 8.3); undefined if nothing is.
 *
 * Of headers that were too many only those that are there are looked at: the request is refused anyway.
 */
export function faultOfRequest(head: RequestHead): string | undefined {
  const { raw, isTooLarge } = head;
  const pseudoFields = new Set<string>();
  let areRegular = false;
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] ?? "";
    const value = raw[index + 1] ?? "";
    if (!name.startsWith(":")) {
      areRegular = true;
      const fault = faultOfField(name, value);
      if (fault !== undefined) {
        return fault;
      }
      continue;
    }
    if (areRegular || pseudoFields.has(name) || !requestPseudoFields.has(name) || invalidValue.test(value)) {
      return `${JSON.stringify(name)} is misplaced, unknown or there twice`;
    }
    pseudoFields.add(name);
  }
  if (isTooLarge) {
    return undefined;
  }
  return faultOfControl(head, pseudoFields);
}

/** What is wrong with the fields that come after a request's content; undefined if nothing is. */
export function faultOfTrailers(raw: readonly string[]): string | undefined {
  for (let index = 0; index < raw.length; index += 2) {
    const fault = faultOfField(raw[index] ?? "", raw[index + 1] ?? "");
    if (fault !== undefined) {
      return fault;
    }
  }
  return undefined;
}

function faultOfControl(head: RequestHead, pseudoFields: ReadonlySet<string>): string | undefined {
  const wanted = head.method === "CONNECT" ? [":method"] : [":method", ":scheme", ":path"];
  for (const name of wanted) {
    if (!pseudoFields.has(name)) {
      return `${name} is missing`;
    }
  }
  if (head.method !== "CONNECT" && head.path === "") {
    return ":path is empty";
  }
  const { contentBytes } = head;
  if (contentBytes !== undefined && !Number.isSafeInteger(contentBytes)) {
    return "content-length is no number";
  }
  return undefined;
}

function faultOfField(name: string, value: string): string | undefined {
  if (!validName.test(name)) {
    return `${JSON.stringify(name)} is no name of a header`;
  }
  if (invalidValue.test(value)) {
    return `the value of ${name} has characters that it must not have`;
  }
  if (connectionFields.has(name) || (name === "te" && value.toLowerCase() !== "trailers")) {
    return `${name} does not belong into HTTP/2`;
  }
  return undefined;
}
