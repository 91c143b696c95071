import type { TomlValue } from "smol-toml";
import { isTable } from "./kind.ts";
import type { Setting } from "./setting.ts";

/** What a setting is if nobody sets it, for people; undefined if that is nothing. */
export function defaultText({ kind, fallback, unset }: Setting): string | undefined {
  if (unset !== undefined) {
    return unset;
  }
  if (fallback === undefined || fallback === false) {
    return undefined;
  }
  const value = kind.toToml(fallback);
  if (Array.isArray(value)) {
    return value.length === 0 ? undefined : value.join(", ");
  }
  return isTable(value) || value === "" ? undefined : String(value);
}

/** A value as buildkitd.toml says it, on one line. */
export function inlineToml(value: TomlValue): string {
  if (typeof value === "string") {
    // JSON's escapes are TOML's, but for the one control character that JSON lets be.
    return JSON.stringify(value).replaceAll("\x7f", "\\u007f");
  }
  if (Array.isArray(value)) {
    return `[${value.map(inlineToml).join(", ")}]`;
  }
  if (isTable(value)) {
    const entries = Object.entries(value).map(([key, each]) => `${tomlKey(key)} = ${inlineToml(each)}`);
    return entries.length === 0 ? "{}" : `{ ${entries.join(", ")} }`;
  }
  return value instanceof Date ? value.toISOString() : String(value);
}

/** A key as TOML writes it: bare where it can be. */
export function tomlKey(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : inlineToml(key);
}
