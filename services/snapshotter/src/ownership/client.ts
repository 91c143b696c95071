/**
 * How a client makes the keys of its snapshots. `containerd` is what containerd's metadata makes of them, which BuildKit
 * keeps as well: `<name space>/<number>/<key>`. Whoever calls us directly, as our worker does, has its `own`.
 */
export type KeyScheme = "containerd" | "own";

/** One that changes snapshots, as far as its requests say who it is. */
export interface Client {
  /** What it calls us: the name of a plugin in containerd's config, of the snapshotter in BuildKit's. */
  readonly name: string;
  /** Undefined: it has not been heard yet. */
  readonly keys: KeyScheme | undefined;
}

/** A name space as containerd has it (its identifiers), and the sequence number of one of its snapshots. */
const containerdKey = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*\/[1-9][0-9]*\/./;

/** The chain id of a layer, which is what a snapshot is called that nobody has to unpack, by whomever it was asked for. */
const chainID = /^sha256:[0-9a-f]{64}(?: on |$)/;

/** How the client makes keys that uses this one; undefined if anybody may use it. */
export function keySchemeOf(key: string): KeyScheme | undefined {
  if (containerdKey.test(key)) {
    return "containerd";
  }
  return chainID.test(key) ? undefined : "own";
}

/** The client that the root with a stored `text` belongs to; undefined if it is not for us to understand. */
export function parseClient(text: string): Client | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || !("name" in value) || typeof value.name !== "string") {
    return undefined;
  }
  const keys =
    "keys" in value && (value.keys === "containerd" || value.keys === "own") ? value.keys : undefined;
  return { name: value.name, keys };
}

/** A client as it is stored. */
export function formatClient({ name, keys }: Client): string {
  return JSON.stringify({ name, keys });
}
