import { resolve } from "node:path";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { KeyPair } from "@oci-worker/registry/host";

/** A host that stands in for a registry. */
interface Mirror {
  /** Name or address, with `:port` if it has one. */
  readonly host: string;
  /** What comes after `/v2` there; empty for nothing. */
  readonly path: string;
}

/** The settings of one registry or mirror, as in `[registry."host"]` of buildkitd.toml. */
export interface RegistryEntry {
  readonly mirrors: readonly Mirror[];
  /** Plain HTTP; undefined: only if the host is this machine. */
  readonly http?: boolean;
  /** Take any certificate. */
  readonly insecure: boolean;
  /** Absolute paths of PEM files. */
  readonly caFiles: readonly string[];
  readonly keyPairs: readonly KeyPair[];
  /** Absolute paths of directories with `*.crt` authorities and `*.cert`, `*.key` pairs. */
  readonly tlsConfigDirs: readonly string[];
}

/** By the registry's name in references, such as `docker.io`, or by the host of a mirror. */
export type RegistryTable = ReadonlyMap<string, RegistryEntry>;

const keys = ["mirrors", "http", "insecure", "ca", "keypair", "tlsconfigdir"];
const keyPairKeys = ["key", "cert"];

/** A host with or without port, and with or without a path. */
const mirrorPattern = /^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?((?:\/[A-Za-z0-9._~-]+)*)\/?$/;

/** What to do about a key that means nothing. */
type OnUnknown = (path: string, known: readonly string[]) => void;

/**
 * Checks the `registry` table of a configuration.
 *
 * @param onUnknown told of keys that mean nothing; without it they are errors, as in a file of our own.
 * @throws {InvalidArgumentError} naming the key at fault.
 */
export function parseRegistryTable(value: unknown, onUnknown: OnUnknown = refuse): RegistryTable {
  const table = requireTable("registry", value ?? {});
  return new Map(
    Object.entries(table).map(([host, entry]) => [
      host,
      parseEntry(`registry.${JSON.stringify(host)}`, entry, onUnknown),
    ]),
  );
}

function parseEntry(path: string, value: unknown, onUnknown: OnUnknown): RegistryEntry {
  const entry = requireTable(path, value);
  reportUnknown(path, entry, keys, onUnknown);
  const http = optionalTruth(`${path}.http`, entry["http"]);
  return {
    mirrors: texts(`${path}.mirrors`, entry["mirrors"]).map((text) => parseMirror(`${path}.mirrors`, text)),
    ...(http !== undefined && { http }),
    insecure: optionalTruth(`${path}.insecure`, entry["insecure"]) ?? false,
    caFiles: texts(`${path}.ca`, entry["ca"]).map((file) => resolve(file)),
    keyPairs: parseKeyPairs(`${path}.keypair`, entry["keypair"], onUnknown),
    tlsConfigDirs: texts(`${path}.tlsconfigdir`, entry["tlsconfigdir"]).map((directory) =>
      resolve(directory),
    ),
  };
}

function parseMirror(path: string, text: string): Mirror {
  const [, name, port = "", mirrorPath = ""] = mirrorPattern.exec(text.replace(/^https:\/\//, "")) ?? [];
  if (name === undefined || /\/\.{1,2}(\/|$)/.test(mirrorPath)) {
    throw wrong(path, text, 'hosts with or without ":port" and path; plain HTTP is set in their own entries');
  }
  return { host: `${name}${port}`, path: mirrorPath };
}

function parseKeyPairs(path: string, value: unknown, onUnknown: OnUnknown): KeyPair[] {
  if (value === undefined) {
    return [];
  }
  if (!Array.isArray(value)) {
    throw wrong(path, value, "a list of tables with key and cert");
  }
  return value.map((each: unknown, index) => {
    const pair = requireTable(`${path}[${index}]`, each);
    reportUnknown(`${path}[${index}]`, pair, keyPairKeys, onUnknown);
    return {
      certFile: resolve(requireText(`${path}[${index}].cert`, pair["cert"])),
      keyFile: resolve(requireText(`${path}[${index}].key`, pair["key"])),
    };
  });
}

function requireTable(path: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Date) {
    throw wrong(path, value, "a table");
  }
  return value as Readonly<Record<string, unknown>>;
}

function reportUnknown(path: string, table: object, known: readonly string[], onUnknown: OnUnknown): void {
  for (const key of Object.keys(table)) {
    if (!known.includes(key)) {
      onUnknown(`${path}.${JSON.stringify(key)}`, known);
    }
  }
}

function refuse(path: string, known: readonly string[]): never {
  throw new InvalidArgumentError(`Cannot read config: unknown key ${path}, want one of ${known.join(", ")}`);
}

function texts(path: string, value: unknown): string[] {
  if (value === undefined) {
    return [];
  }
  if (!Array.isArray(value) || !value.every((each) => typeof each === "string" && each !== "")) {
    throw wrong(path, value, "a list of texts that are not empty");
  }
  return value;
}

function requireText(path: string, value: unknown): string {
  if (typeof value !== "string" || value === "") {
    throw wrong(path, value, "a text that is not empty");
  }
  return value;
}

function optionalTruth(path: string, value: unknown): boolean | undefined {
  if (value !== undefined && typeof value !== "boolean") {
    throw wrong(path, value, "true or false");
  }
  return value;
}

function wrong(path: string, value: unknown, wanted: string): InvalidArgumentError {
  const shown = JSON.stringify(value)?.slice(0, 200) ?? "nothing";
  return new InvalidArgumentError(`Cannot read config: ${path} is ${shown}, want ${wanted}`);
}
