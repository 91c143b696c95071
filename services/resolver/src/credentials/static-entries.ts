import { resolve } from "node:path";
import { refuseUnknownKeys, text, wrongSetting } from "@oci-worker/daemon/setting";
import { parseRegistryPattern, type RegistryPattern } from "./registry-pattern.ts";

/** Credentials of the config, with the secret in a file. */
export interface StaticEntry {
  readonly registry: RegistryPattern;
  readonly kind: "password" | "identity-token" | "registry-token";
  /** Only beside a password. */
  readonly username?: string;
  /** Absolute path of the file with the secret. */
  readonly secretFile: string;
}

/** Which file of an entry holds what. */
const kinds = {
  passwordFile: "password",
  identityTokenFile: "identity-token",
  registryTokenFile: "registry-token",
} as const;

const fileKeys = Object.keys(kinds) as (keyof typeof kinds)[];

const known = { registry: "", username: "", passwordFile: "", identityTokenFile: "", registryTokenFile: "" };

/**
 * Checks the list `static` of a configuration.
 *
 * @throws {InvalidArgumentError} naming the key at fault.
 */
export function parseStaticEntries(value: unknown): StaticEntry[] {
  if (value === undefined) {
    return [];
  }
  if (!Array.isArray(value)) {
    throw wrongSetting("static", value, "a list of tables");
  }
  return value.map((entry: unknown, index) => parseEntry(`static[${index}]`, entry));
}

function parseEntry(path: string, value: unknown): StaticEntry {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw wrongSetting(path, value, "a table");
  }
  refuseUnknownKeys(value, known);
  const entry: Readonly<Record<string, unknown>> = { ...value };
  const [key, ...others] = fileKeys.filter((each) => entry[each] !== undefined);
  if (key === undefined || others.length > 0) {
    throw wrongSetting(path, Object.keys(entry), `one of ${fileKeys.join(", ")}`);
  }
  const username = entry["username"] === undefined ? undefined : text(`${path}.username`, entry["username"]);
  if ((key === "passwordFile") !== (username !== undefined) || username?.includes(":")) {
    throw wrongSetting(
      `${path}.username`,
      username,
      "a name without colon beside passwordFile, and none else",
    );
  }
  const pattern = text(`${path}.registry`, entry["registry"]);
  const registry = parseRegistryPattern(pattern);
  if (registry === undefined) {
    throw wrongSetting(`${path}.registry`, pattern, "a host, with or without port and repository");
  }
  const secretFile = resolve(text(`${path}.${key}`, entry[key]));
  return { registry, kind: kinds[key], ...(username !== undefined && { username }), secretFile };
}
