import type { OutgoingHttpHeaders } from "node:http2";

/** A header field name as HTTP/2 wants it, and its values in the order they came. */
type RawHeaders = readonly string[];

/**
 * Every value of the header `name`, repeated fields kept apart.
 *
 * `Headers.get` joins them with ", ", which makes one wrong pattern of two `exclude-patterns`.
 */
export function rawValues(raw: RawHeaders, name: string): string[] {
  const wanted = name.toLowerCase();
  const values: string[] = [];
  for (let index = 0; index + 1 < raw.length; index += 2) {
    if (raw[index]?.toLowerCase() === wanted) {
      values.push(raw[index + 1] ?? "");
    }
  }
  return values;
}

/** A raw header list as a `Headers`, pseudo headers left out. */
export function headersFromRaw(raw: RawHeaders): Headers {
  const headers = new Headers();
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] ?? "";
    if (!name.startsWith(":")) {
      headers.append(name, raw[index + 1] ?? "");
    }
  }
  return headers;
}

/**
 * What a caller passes as headers, for node:http2. Given as pairs, a name that comes twice goes out as two fields.
 */
export function outgoingHeaders(init: HeadersInit | undefined): OutgoingHttpHeaders {
  const outgoing: OutgoingHttpHeaders = {};
  if (init === undefined) {
    return outgoing;
  }
  for (const [name, value] of pairsOf(init)) {
    const key = name.toLowerCase();
    const earlier = outgoing[key];
    if (earlier === undefined) {
      outgoing[key] = value;
    } else {
      outgoing[key] = Array.isArray(earlier) ? [...earlier, value] : [String(earlier), value];
    }
  }
  return outgoing;
}

function pairsOf(init: HeadersInit): Iterable<readonly [string, string]> {
  if (init instanceof Headers || Array.isArray(init)) {
    return init as Iterable<readonly [string, string]>;
  }
  return Object.entries(init as Record<string, string>);
}
