import { create, toBinary } from "@bufbuild/protobuf";
import {
  type Definition,
  DefinitionSchema,
  type Op,
  type OpMetadata,
  OpMetadataSchema,
  OpSchema,
} from "@oci-worker/api/buildkit/llb";
import { type Digest, digestOf } from "@oci-worker/oci/digest";
import type { Platform } from "@oci-worker/oci/platform";
import { formatReference, type Reference } from "@oci-worker/oci/reference";
import { type ExecOptions, execOp } from "./exec-op.ts";
import { customNameKey } from "./name.ts";
import { platformToProto } from "./platform.ts";

/**
 * An operation that has been written. Its bytes are made once and its digest is theirs, so what uses it can be written
 * at once, too.
 */
interface BuiltVertex {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
  readonly metadata: OpMetadata;
  readonly inputs: readonly BuiltVertex[];
}

/** A file system tree that a build will have: an output of an operation, or the empty tree. */
export interface Tree {
  readonly platform: Platform | undefined;
  /** Undefined for the empty tree. */
  readonly source: Output | undefined;
}

interface Output {
  readonly vertex: BuiltVertex;
  readonly index: number;
}

/** The empty tree. */
export const scratch: Tree = { platform: undefined, source: undefined };

/** What may be said of any operation. None of it changes what the operation makes. */
export interface Remarks {
  /** What people are shown, in place of a name made of the operation. */
  readonly name?: string;
  /** Do it even if its result is in the cache. */
  readonly ignoreCache?: boolean;
}

export interface ImageOptions extends Remarks {
  /** Which image of an index to take; undefined is the platform of the worker. */
  readonly platform?: Platform;
  /** `default` asks the registry what a tag points at, `pull` does not take the worker's word, `local` does. */
  readonly resolveMode?: "default" | "pull" | "local";
}

/** The content of an image. */
export function image(reference: Reference, options: ImageOptions = {}): Tree {
  const { platform, resolveMode } = options;
  const caps = ["source.image", ...(resolveMode === "pull" ? ["source.image.resolvemode"] : [])];
  const op = create(OpSchema, {
    op: {
      case: "source",
      value: {
        identifier: `docker-image://${formatReference(reference)}`,
        attrs: resolveMode === undefined ? {} : { "image.resolvemode": resolveMode },
      },
    },
    ...(platform && { platform: platformToProto(platform) }),
    constraints: {},
  });
  return { platform, source: { vertex: write(op, [], caps, options), index: 0 } };
}

export interface RunOptions extends Remarks, ExecOptions<Tree> {
  /** What the process sees as `/`. */
  readonly root: Tree;
}

/** A process that was run, as the trees it leaves behind. */
export interface Run {
  /** The root file system after the process. */
  readonly root: Tree;
  /** Those of its mounts that have a result, by their destination. */
  readonly mounts: ReadonlyMap<string, Tree>;
  /** Identifies the operation in status updates and errors. */
  readonly digest: Digest;
}

/**
 * Runs a process.
 *
 * @throws {InvalidArgumentError} if it has no arguments or two mounts at one place.
 */
export function run(options: RunOptions): Run {
  const { root } = options;
  const platform = root.platform;
  const inputs: Output[] = [];
  /** The number of a tree among the inputs; the same output is one input however often it is mounted. */
  const inputOf = ({ source }: Tree): number => {
    if (source === undefined) {
      return -1;
    }
    const known = inputs.findIndex(
      ({ vertex, index }) => vertex.digest === source.vertex.digest && index === source.index,
    );
    return known >= 0 ? known : inputs.push(source) - 1;
  };
  const { exec, caps, outputs } = execOp(options, inputOf);
  const op = create(OpSchema, {
    inputs: inputs.map(({ vertex, index }) => ({ digest: vertex.digest, index: BigInt(index) })),
    op: { case: "exec", value: exec },
    ...(platform && { platform: platformToProto(platform) }),
    constraints: {},
  });
  const vertex = write(
    op,
    inputs.map((input) => input.vertex),
    caps,
    options,
  );
  const mounts = new Map(outputs.map((dest, index) => [dest, { platform, source: { vertex, index } }]));
  return { root: mounts.get("/") ?? root, mounts, digest: vertex.digest };
}

/**
 * The definition that asks for `tree`, ready to be solved. The same tree always gives the same bytes.
 *
 * The empty tree is an empty definition, as BuildKit has it.
 */
export function definitionOf(tree: Tree): Definition {
  if (tree.source === undefined) {
    return create(DefinitionSchema);
  }
  const { vertex, index } = tree.source;
  const vertices = inOrder(vertex);
  const terminal = write(
    create(OpSchema, { inputs: [{ digest: vertex.digest, index: BigInt(index) }] }),
    [],
    ["constraints", "meta.description", "platform"],
    {},
  );
  const all = [...vertices, terminal];
  return create(DefinitionSchema, {
    def: all.map(({ bytes }) => bytes),
    metadata: sortedMap(all.map(({ digest, metadata }) => [digest, metadata])),
  });
}

/** The bytes of {@link definitionOf}, as `buildctl build` reads them. */
export function marshal(tree: Tree): Uint8Array {
  return toBinary(DefinitionSchema, definitionOf(tree));
}

function write(
  op: Op,
  inputs: readonly BuiltVertex[],
  caps: readonly string[],
  { name, ignoreCache }: Remarks,
): BuiltVertex {
  const bytes = toBinary(OpSchema, op);
  const metadata = create(OpMetadataSchema, {
    ignoreCache: ignoreCache ?? false,
    description: name === undefined ? {} : { [customNameKey]: name },
    caps: sortedMap(caps.map((cap) => [cap, true])),
  });
  return { digest: digestOf(bytes), bytes, metadata, inputs };
}

/** `last` and all that it needs, each after its inputs. */
function inOrder(last: BuiltVertex): BuiltVertex[] {
  const found = new Map<Digest, BuiltVertex>();
  const pending: { readonly vertex: BuiltVertex; entered: boolean }[] = [{ vertex: last, entered: false }];
  for (let top = pending.at(-1); top !== undefined; top = pending.at(-1)) {
    const { vertex } = top;
    if (top.entered || found.has(vertex.digest)) {
      pending.pop();
      found.set(vertex.digest, vertex);
      continue;
    }
    top.entered = true;
    pending.push(...vertex.inputs.toReversed().map((input) => ({ vertex: input, entered: false })));
  }
  return [...found.values()];
}

/** Maps have no order on the wire, so ours are written in one: that of their keys. */
function sortedMap<T>(entries: readonly (readonly [key: string, value: T])[]): Record<string, T> {
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
