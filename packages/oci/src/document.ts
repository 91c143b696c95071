import { InvalidArgumentError } from "@oci-worker/errdefs";

/** A JSON object with everything that was in it, keys that we do not know included. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Largest manifest, index or image config that is read, in bytes. A document without a limit lets a registry exhaust
 * our memory (CVE-2023-25153); 8 MiB is what containerd settled on.
 */
export const maxDocumentBytes = 8 * 1024 * 1024;

/**
 * Reads `bytes` as one JSON object.
 *
 * @param what names the document in errors, such as "manifest".
 * @throws {InvalidArgumentError} if it is longer than `maxBytes`, no UTF-8, no JSON or no object.
 */
export function parseDocument(what: string, bytes: Uint8Array, maxBytes = maxDocumentBytes): JsonObject {
  if (bytes.length > maxBytes) {
    throw new InvalidArgumentError(
      `Cannot read ${what}: it has ${bytes.length} bytes, want at most ${maxBytes}`,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    // The parser's own error quotes the document, which may hold a secret.
    throw new InvalidArgumentError(`Cannot read ${what}: it is no JSON`);
  }
  if (!isObject(value)) {
    throw new InvalidArgumentError(`Cannot read ${what}: it is ${nameOf(value)}, want a JSON object`);
  }
  return value;
}

/**
 * Reads the fields of a JSON object and complains about those of a wrong type by their path.
 *
 * An absent field and `null` are the same: Go writes an empty list as `null`.
 */
export class Fields {
  readonly #what: string;
  readonly #path: string;
  readonly #object: JsonObject;

  /** @param path of `object` in the document, such as "layers[3]"; empty for the document itself. */
  constructor(what: string, object: JsonObject, path = "") {
    this.#what = what;
    this.#object = object;
    this.#path = path;
  }

  has(key: string): boolean {
    return this.#value(key) !== undefined;
  }

  text(key: string): string | undefined {
    return this.#typed(key, isText, "a text");
  }

  requiredText(key: string): string {
    return this.text(key) ?? this.#missing(key, "a text");
  }

  /** A whole number of at least 0, exact in a double. */
  size(key: string): number {
    return this.#typed(key, isSize, "a whole number of at least 0") ?? this.#missing(key, "a number");
  }

  texts(key: string): string[] | undefined {
    return this.#typed(key, isTextList, "a list of texts");
  }

  textMap(key: string): Readonly<Record<string, string>> | undefined {
    return this.#typed(key, isTextMap, "an object with texts");
  }

  /** The keys of an object whose values say nothing, which is how Docker writes a set. */
  set(key: string): string[] | undefined {
    const object = this.#typed(key, isObject, "an object");
    return object === undefined ? undefined : Object.keys(object);
  }

  /** The entries of an object whose values are objects. */
  entries(key: string): [name: string, fields: Fields][] {
    const object = this.#typed(key, isObject, "an object") ?? {};
    const fields = new Fields(this.#what, object, this.#pathOf(key));
    return Object.keys(object).map((name) => [name, fields.requiredObject(name)]);
  }

  object(key: string): Fields | undefined {
    const object = this.#typed(key, isObject, "an object");
    return object === undefined ? undefined : new Fields(this.#what, object, this.#pathOf(key));
  }

  requiredObject(key: string): Fields {
    return this.object(key) ?? this.#missing(key, "an object");
  }

  objects(key: string): Fields[] | undefined {
    return this.#typed(key, isObjectList, "a list of objects")?.map(
      (object, index) => new Fields(this.#what, object, `${this.#pathOf(key)}[${index}]`),
    );
  }

  /** What `parse` makes of the text at `key`; its complaint gets the path of the field. */
  parsed<T>(key: string, parse: (text: string) => T): T {
    return this.#located(key, this.requiredText(key), parse);
  }

  /** What `parse` makes of each of the texts at `key`. */
  parsedTexts<T>(key: string, parse: (text: string) => T): T[] | undefined {
    return this.texts(key)?.map((text, index) => this.#located(`${key}[${index}]`, text, parse));
  }

  /** An error about the field `key`. */
  error(key: string, reason: string, options?: ErrorOptions): InvalidArgumentError {
    return new InvalidArgumentError(`Cannot read ${this.#what}: ${this.#pathOf(key)}: ${reason}`, options);
  }

  #located<T>(key: string, text: string, parse: (text: string) => T): T {
    try {
      return parse(text);
    } catch (cause) {
      if (cause instanceof InvalidArgumentError) {
        throw this.error(key, cause.message, { cause });
      }
      throw cause;
    }
  }

  #value(key: string): unknown {
    const value = Object.hasOwn(this.#object, key) ? this.#object[key] : undefined;
    return value === null ? undefined : value;
  }

  #typed<T>(key: string, is: (value: unknown) => value is T, wanted: string): T | undefined {
    const value = this.#value(key);
    if (value === undefined) {
      return undefined;
    }
    if (!is(value)) {
      throw this.error(key, `it is ${nameOf(value)}, want ${wanted}`);
    }
    return value;
  }

  #missing(key: string, wanted: string): never {
    throw this.error(key, `it is missing, want ${wanted}`);
  }

  #pathOf(key: string): string {
    return this.#path === "" ? key : `${this.#path}.${key}`;
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isText);
}

function isTextMap(value: unknown): value is Readonly<Record<string, string>> {
  return isObject(value) && Object.values(value).every(isText);
}

function isObjectList(value: unknown): value is JsonObject[] {
  return Array.isArray(value) && value.every(isObject);
}

/** What kind of value it is, without showing it: it may be long. */
function nameOf(value: unknown): string {
  if (value === null) {
    return "null";
  }
  if (Array.isArray(value)) {
    return "a list";
  }
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}
