import { InvalidArgumentError } from "@oci-worker/errdefs";

/** A value of a document, and where in it that is, for errors. */
export interface Place {
  readonly value: unknown;
  /** Such as `devices[0].name`; empty for all of it. */
  readonly path: string;
}

/** Longest value that an error shows, in characters. */
const maxShownLength = 100;

/** The error that says what is at a place, and what is wanted there. */
export function wrongPlace({ value, path }: Place, wanted: string): InvalidArgumentError {
  return new InvalidArgumentError(`${path === "" ? "it" : path} is ${shown(value)}, want ${wanted}`);
}

function shown(value: unknown): string {
  const text = value instanceof Map ? "a table" : (JSON.stringify(value) ?? "nothing");
  return text.length > maxShownLength ? `${text.slice(0, maxShownLength)}...` : text;
}

function beneath({ path }: Place, name: unknown): string {
  const key = /^[\w./-]{1,100}$/.test(String(name)) ? String(name) : shown(name);
  return path === "" ? key : `${path}.${key}`;
}

/**
 * What a table has under `keys`. A key with no value is as good as absent; upper and lower case are one, since the
 * specification itself spells keys in two ways and upstream's reader does not care.
 *
 * @throws {InvalidArgumentError} for a key that is none of them, or is there twice.
 */
export function tableAt<const Key extends string>(
  place: Place,
  keys: readonly Key[],
): { readonly [K in Key]?: Place } {
  if (!(place.value instanceof Map)) {
    throw wrongPlace(place, `a table with the keys ${keys.join(", ")}`);
  }
  const found: { [K in Key]?: Place } = {};
  for (const [name, value] of place.value) {
    const key = keys.find((known) => known.toLowerCase() === String(name).toLowerCase());
    const path = beneath(place, name);
    if (key === undefined) {
      throw new InvalidArgumentError(`${path} is no key of it, want one of ${keys.join(", ")}`);
    }
    if (found[key] !== undefined) {
      throw new InvalidArgumentError(`${path} is there twice, want it once`);
    }
    if (value !== null) {
      found[key] = { value, path };
    }
  }
  return found;
}

/** What a table has, whatever its keys are: texts. */
export function textsByName(place: Place | undefined): Readonly<Record<string, string>> {
  if (place === undefined) {
    return {};
  }
  if (!(place.value instanceof Map)) {
    throw wrongPlace(place, "a table of texts");
  }
  return Object.fromEntries(
    [...place.value].map(([name, value]) => [String(name), textAt({ value, path: beneath(place, name) })]),
  );
}

/** The items of a list; none if it is not there. */
export function listAt(place: Place | undefined): Place[] {
  if (place === undefined) {
    return [];
  }
  if (!Array.isArray(place.value)) {
    throw wrongPlace(place, "a list");
  }
  return place.value.map((value, index) => ({ value, path: `${place.path}[${index}]` }));
}

/** A text. YAML makes a number of `name: 0`, which is a text all the same to whoever wants one. */
export function textAt(place: Place): string {
  const { value } = place;
  switch (typeof value) {
    case "string":
      return value;
    case "number":
    case "boolean":
      return String(value);
    default:
      throw wrongPlace(place, "a text");
  }
}

/** A text of the form that `isRight` knows. */
export function formAt(place: Place, isRight: (text: string) => boolean, wanted: string): string {
  const text = textAt(place);
  if (!isRight(text)) {
    throw wrongPlace(place, wanted);
  }
  return text;
}

export function wholeNumberAt(place: Place, least: number, most: number): number {
  const { value } = place;
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least || value > most) {
    throw wrongPlace(place, `a whole number from ${least} to ${most}`);
  }
  return value;
}

export function truthAt(place: Place): boolean {
  if (typeof place.value !== "boolean") {
    throw wrongPlace(place, "true or false");
  }
  return place.value;
}

/** The table has to have `key`. */
export function requiredAt(place: Place | undefined, parent: Place, key: string): Place {
  if (place === undefined) {
    throw new InvalidArgumentError(`${parent.path === "" ? "it" : parent.path} has no ${key}, want one`);
  }
  return place;
}
