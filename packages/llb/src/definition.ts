import { create, fromBinary } from "@bufbuild/protobuf";
import {
  type Definition,
  DefinitionSchema,
  type Op,
  type OpMetadata,
  OpMetadataSchema,
  OpSchema,
} from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError, ResourceExhaustedError, ServiceError } from "@oci-worker/errdefs";
import { type Digest, digestOf, parseDigest } from "@oci-worker/oci/digest";
import { customNameKey, opName } from "./name.ts";
import { topologicalOrder } from "./order.ts";
import { validateOp } from "./validate.ts";

/** One operation of a graph, with what it needs. */
export interface Vertex {
  /** sha256 of the operation's bytes as they were received. */
  readonly digest: Digest;
  readonly op: Op;
  readonly inputs: readonly Edge[];
  /** What is said about the operation but does not change what it makes. */
  readonly metadata: OpMetadata;
  /** What people are shown. */
  readonly name: string;
  /**
   * What tells it from the same operation of other builds, which what they were granted makes another one: as for all
   * that needs it. Absent if nothing does.
   */
  readonly variant?: string;
  /** Whether it is to reach its network by a proxy of the worker and in no other way. Absent: it is not. */
  readonly proxied?: boolean;
}

/** One output of an operation. */
export interface Edge {
  readonly vertex: Vertex;
  /** Which of the vertex's outputs, from 0. */
  readonly index: number;
}

/** A definition that has been checked. */
export interface Graph {
  /** What the result needs, each vertex after its inputs. Operations of the definition that nobody needs are left out. */
  readonly vertices: readonly Vertex[];
  /** What was asked for. */
  readonly result: Edge;
}

/** How large a definition may be. One that is built by hand or by a frontend stays far below. */
export interface Limits {
  readonly maxOps: number;
  /** Most operations one after the other, each an input of the next. */
  readonly maxDepth: number;
  /** Of all operations together. */
  readonly maxBytes: number;
}

/** Outputs of one operation: an index beyond is nonsense, and not every number of the wire is one of ours. */
const maxOutputs = 2 ** 31;

export const defaultLimits: Limits = { maxOps: 50_000, maxDepth: 10_000, maxBytes: 64 * 1024 * 1024 };

/**
 * Reads a marshalled `pb.Definition`, such as what `buildctl debug dump-llb` takes.
 *
 * @throws {InvalidArgumentError} if it is none.
 */
export function parseDefinition(bytes: Uint8Array): Definition {
  try {
    return fromBinary(DefinitionSchema, bytes);
  } catch (cause) {
    throw new InvalidArgumentError("Cannot load definition: it is no pb.Definition", { cause });
  }
}

/**
 * Checks `definition` and puts its operations in order.
 *
 * The last operation is no operation but says which output of which other one is the result. Operations are
 * identified by the bytes they came in: they are never written anew, since that could change the digest.
 *
 * @throws {InvalidArgumentError} naming what is wrong, with the words that BuildKit has for it.
 * @throws {ResourceExhaustedError} if it is larger than `limits`.
 */
export function loadDefinition(definition: Definition, limits: Limits = defaultLimits): Graph {
  try {
    return load(definition, limits);
  } catch (error) {
    if (error instanceof ServiceError) {
      const options = { cause: error.cause };
      const message = `Cannot load definition: ${error.message}`;
      throw new ServiceError(error.reason, message, options);
    }
    throw error;
  }
}

function load({ def, metadata }: Definition, limits: Limits): Graph {
  if (def.length === 0) {
    throw new InvalidArgumentError("invalid empty definition");
  }
  requireSize(def, limits);
  const ops = new Map<Digest, Op>();
  let last: Digest | undefined;
  for (const bytes of def) {
    last = digestOf(bytes);
    if (!ops.has(last)) {
      ops.set(last, parseOp(bytes));
    }
  }
  if (last === undefined || ops.size < 2) {
    throw new InvalidArgumentError(`invalid LLB with ${ops.size} vertexes`);
  }
  const [result] = ops.get(last)?.inputs ?? [];
  if (result === undefined) {
    throw new InvalidArgumentError("invalid LLB with no inputs on last vertex");
  }
  ops.delete(last);

  const nodes = new Map(
    [...ops].map(([digest, { inputs }]) => [digest, { inputs: inputs.map(inputDigest) }]),
  );
  const vertices = new Map<string, Vertex>();
  for (const key of topologicalOrder(nodes, inputDigest(result), limits.maxDepth)) {
    const digest = parseDigest(key);
    const op = ops.get(digest);
    if (op === undefined) {
      throw new InvalidArgumentError(`invalid missing input digest ${digest}`);
    }
    validateOp(op);
    const inputs = op.inputs.map((input) => edge(vertices, input));
    const own = metadata[digest] ?? create(OpMetadataSchema);
    const names = inputs.map(({ vertex }) => vertex.name);
    const name = own.description[customNameKey] ?? opName(op, names);
    vertices.set(digest, { digest, op, inputs, metadata: own, name });
  }
  return { vertices: [...vertices.values()], result: edge(vertices, result) };
}

function requireSize(def: readonly Uint8Array[], { maxOps, maxBytes }: Limits): void {
  if (def.length > maxOps) {
    throw new ResourceExhaustedError(`it has ${def.length} operations, want at most ${maxOps}`);
  }
  const bytes = def.reduce((sum, op) => sum + op.length, 0);
  if (bytes > maxBytes) {
    throw new ResourceExhaustedError(`it has ${bytes} bytes, want at most ${maxBytes}`);
  }
}

function parseOp(bytes: Uint8Array): Op {
  try {
    return fromBinary(OpSchema, bytes);
  } catch (cause) {
    throw new InvalidArgumentError("failed to parse llb proto op", { cause });
  }
}

/** Checked before it is looked up, so that no error repeats an arbitrary text at any length. */
function inputDigest({ digest }: { readonly digest: string }): Digest {
  try {
    return parseDigest(digest);
  } catch (cause) {
    const shown = JSON.stringify(digest.slice(0, 100));
    throw new InvalidArgumentError(`invalid missing input digest ${shown}`, { cause });
  }
}

function edge(
  vertices: ReadonlyMap<string, Vertex>,
  { digest, index }: { readonly digest: string; readonly index: bigint },
): Edge {
  const vertex = vertices.get(digest);
  if (vertex === undefined) {
    throw new InvalidArgumentError(`invalid missing input digest ${digest}`);
  }
  const count = outputCount(vertex.op);
  if (index < 0n || index >= BigInt(count)) {
    throw new InvalidArgumentError(
      `invalid input: output ${index} of ${digest} is wanted, it has ${count} outputs`,
    );
  }
  return { vertex, index: Number(index) };
}

/** How many outputs `op` has at most. */
function outputCount({ op }: Op): number {
  switch (op.case) {
    case "source":
    case "merge":
    case "diff":
      return 1;
    case "exec":
      return highest(op.value.mounts) + 1;
    case "file":
      return highest(op.value.actions) + 1;
    case "build":
    case "passthrough":
    case undefined:
      // Only running it tells.
      return maxOutputs;
  }
}

function highest(outputs: readonly { readonly output: bigint }[]): number {
  return outputs.reduce((top, { output }) => Math.max(top, Number(output)), -1);
}
