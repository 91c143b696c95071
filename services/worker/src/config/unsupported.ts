import type { TomlValue } from "smol-toml";
import { isTable, type Kind, wrongValue } from "./kind.ts";
import { text, texts, truth } from "./kinds.ts";

/**
 * Something that buildkitd can be told and this worker cannot do. It is warned of: no build misses it before it asks for
 * it. What would change what builds may do, or where what they say goes, has to be refused in place of that.
 */
export interface Unsupported<T = unknown> {
  /** Its key in the file, as TOML writes it. */
  readonly key?: string;
  /** Of the environment. */
  readonly variable?: string;
  readonly kind: Kind<T>;
  /** Whether a value asks for no more than what is so anyway. */
  isMet(value: T): boolean;
  /** Why it cannot be done, and what is wanted in its place. */
  readonly why: string;
}

function unsupported<T>(entry: Unsupported<T>): Unsupported {
  return entry as Unsupported;
}

/** A table of the file of which it only matters whether there is something in it. */
const table: Kind<TomlValue> = {
  operand: "TABLE",
  fromText(value) {
    throw wrongValue(value, "a table, which only the file has");
  },
  fromToml(value) {
    if (!isTable(value)) {
      throw wrongValue(value, "a table");
    }
    return value;
  },
  toToml: (value) => value,
};

const isEmpty = (value: string) => value === "";
const isFalse = (value: boolean) => !value;

const noFrontends = "this worker has no frontends: it takes builds as LLB, which clients can make themselves";

export const unsupportedSettings: readonly Unsupported[] = [
  unsupported({
    key: 'frontend."dockerfile.v0".enabled',
    kind: truth,
    isMet: isFalse,
    why: noFrontends,
  }),
  unsupported({
    key: 'frontend."gateway.v0".enabled',
    kind: truth,
    isMet: isFalse,
    why: noFrontends,
  }),
  unsupported({
    key: 'frontend."gateway.v0".allowedRepositories',
    kind: texts,
    // It is about those that may not be used, which none may.
    isMet: () => true,
    why: noFrontends,
  }),
  unsupported({
    key: "provenanceEnvDir",
    kind: text,
    isMet: isEmpty,
    why: "this worker states no provenance, so that nothing is added to it",
  }),
  unsupported({
    key: "cache.gha",
    kind: table,
    isMet: (value) => isTable(value) && Object.keys(value).length === 0,
    why: "this worker does not use the cache of GitHub's Actions",
  }),
  unsupported({
    key: "grpc.securityDescriptor",
    kind: text,
    isMet: isEmpty,
    why: "it is for named pipes of Windows: want grpc.uid and grpc.gid for who may connect",
  }),
  unsupported({
    variable: "BUILDKIT_DEBUG_FORCE_OVERLAY_DIFF",
    kind: text,
    isMet: isEmpty,
    why: "layers are made of the directory that overlayfs writes to wherever there is one, and that alone",
  }),
  unsupported({
    variable: "BUILDKIT_DEBUG_PANIC_ON_ERROR",
    kind: text,
    isMet: (value) => value !== "1",
    why: "it has buildkitd stop at faults of its own; this worker logs its own, at level error",
  }),
];

export const unsupportedKeys: ReadonlyMap<string, Unsupported> = new Map(
  unsupportedSettings.flatMap((each) => (each.key === undefined ? [] : [[each.key, each]])),
);

export const unsupportedVariables: ReadonlyMap<string, Unsupported> = new Map(
  unsupportedSettings.flatMap((each) => (each.variable === undefined ? [] : [[each.variable, each]])),
);
