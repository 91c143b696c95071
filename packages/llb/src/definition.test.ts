import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import {
  create,
  equals,
  fromJson,
  type JsonObject,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type Definition, DefinitionSchema, OpMetadataSchema, OpSchema } from "@oci-worker/api/buildkit/llb";
import { ServiceError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import fc from "fast-check";
import { defaultLimits, loadDefinition, parseDefinition } from "./definition.ts";
import { opName } from "./name.ts";

type OpInit = MessageInitShape<typeof OpSchema>;

/** A definition of ops that are each made from the digests of those before. */
function definitionOf(...makers: ((digests: string[]) => OpInit)[]): Definition {
  const digests: string[] = [];
  const def = makers.map((make) => {
    const bytes = toBinary(OpSchema, create(OpSchema, make(digests)));
    digests.push(digestOf(bytes));
    return bytes;
  });
  return create(DefinitionSchema, { def });
}

const image = (name = "docker-image://busybox"): OpInit => ({
  op: { case: "source", value: { identifier: name } },
});
const terminal = (digests: string[]): OpInit => ({ inputs: [{ digest: digests.at(-1) ?? "" }] });
const input = (digests: string[]) => [{ digest: digests.at(-1) ?? "" }];

/** A line of `buildctl debug dump-llb`: Go's JSON, where a oneof is an object in an object. */
interface DumpLine {
  readonly Op: JsonObject & { readonly Op: JsonObject | null };
  readonly Digest: string;
  readonly OpMetadata: JsonObject;
}

function opOf({ Op: { Op: kind, ...rest } }: DumpLine) {
  const flat = { ...rest, ...kind };
  const file = flat["file"] as { actions: { Action: JsonObject }[] } | undefined;
  if (file !== undefined) {
    const actions = file.actions.map(({ Action, ...action }) => ({ ...action, ...Action }));
    return fromJson(OpSchema, { ...flat, file: { actions: JSON.parse(flattenUsers(actions)) } });
  }
  return fromJson(OpSchema, flat);
}

/** `{"user":{"User":{"byID":1}}}` of Go is `{"user":{"byID":1}}` of protobuf. */
function flattenUsers(actions: unknown): string {
  return JSON.stringify(actions).replaceAll(/\{"User":(\{[^{}]*(\{[^{}]*\})?[^{}]*\})\}/g, "$1");
}

describe("loadDefinition agrees with BuildKit about", () => {
  for (const name of ["simple", "mounts", "multistage", "copyforms"]) {
    test(`the graph of ${name}.Dockerfile`, async () => {
      const file = (suffix: string) => new URL(`testdata/${name}.${suffix}`, import.meta.url);
      const graph = loadDefinition(parseDefinition(await readFile(file("pb"))));
      const lines = (await readFile(file("jsonl"), "utf8")).trim().split("\n");
      const wanted = lines.map((line) => JSON.parse(line) as DumpLine);
      const last = wanted.pop();

      assert.equal(graph.vertices.length, wanted.length);
      for (const line of wanted) {
        const vertex = graph.vertices.find(({ digest }) => digest === line.Digest);
        assert(vertex !== undefined, `no vertex ${line.Digest}`);
        assert(equals(OpSchema, vertex.op, opOf(line)), `op ${line.Digest} differs`);
        assert(equals(OpMetadataSchema, vertex.metadata, fromJson(OpMetadataSchema, line.OpMetadata)));
        const description = line.OpMetadata["description"] as Record<string, string> | undefined;
        const names = vertex.inputs.map((each) => each.vertex.name);
        assert.equal(vertex.name, description?.["llb.customname"] ?? opName(vertex.op, names));
      }
      const [result] = (last?.Op["inputs"] ?? []) as { digest: string; index: number }[];
      assert.equal(graph.result.vertex.digest, result?.digest);
      assert.equal(graph.result.index, result?.index);
    });
  }
});

test("vertices come after their inputs, and what nobody needs is left out", () => {
  const definition = definitionOf(
    () => image("docker-image://a"),
    () => image("docker-image://unused"),
    (digests) => ({
      inputs: [{ digest: digests[0] ?? "" }],
      op: { case: "merge", value: { inputs: [{ input: 0n }] } },
    }),
    terminal,
  );
  const names = loadDefinition(definition).vertices.map(({ name }) => name);
  assert.deepEqual(names, ["docker-image://a", "merge (docker-image://a)"]);
});

describe("loadDefinition refuses", () => {
  const exec = (value: object) => (digests: string[]) =>
    ({ inputs: input(digests), op: { case: "exec", value } }) as OpInit;
  const unknownDigest = digestOf("nothing");
  const cases: [name: string, definition: Definition, text: RegExp][] = [
    ["an empty one", definitionOf(), /invalid empty definition/],
    ["a single op", definitionOf(() => image()), /invalid LLB with 1 vertexes/],
    [
      "the same op twice",
      definitionOf(image.bind(null, "a"), image.bind(null, "a")),
      /invalid LLB with 1 ver/,
    ],
    [
      "a last op without inputs",
      definitionOf(
        () => image("a"),
        () => image("b"),
      ),
      /no inputs on last vertex/,
    ],
    [
      "an input that is not there",
      definitionOf(
        () => image(),
        () => ({ inputs: [{ digest: unknownDigest }] }),
      ),
      new RegExp(`invalid missing input digest ${unknownDigest}`),
    ],
    [
      "an input that is no digest",
      definitionOf(
        () => image(),
        () => ({ inputs: [{ digest: "x".repeat(5000) }] }),
      ),
      /invalid missing input digest "x{100}"$/,
    ],
    ["an op of no kind", definitionOf(() => ({}), terminal), /invalid nil op/],
    ["a source without identifier", definitionOf(() => image(""), terminal), /invalid source op/],
    ["an exec without meta", definitionOf(() => image(), exec({}), terminal), /invalid exec op with no meta/],
    [
      "an exec without args",
      definitionOf(() => image(), exec({ meta: {} }), terminal),
      /invalid exec op with no args/,
    ],
    [
      "an exec without mounts",
      definitionOf(() => image(), exec({ meta: { args: ["a"] } }), terminal),
      /invalid exec op with no mounts/,
    ],
    [
      "an exec without root",
      definitionOf(() => image(), exec({ meta: { args: ["a"] }, mounts: [{ dest: "/x" }] }), terminal),
      /invalid exec op with no rootfs/,
    ],
    ...[
      { meta: { args: ["a", "b\0c"] } },
      { meta: { args: ["a"], env: ["A=b\0c"] } },
      { meta: { args: ["a"], cwd: "b\0c" } },
      { meta: { args: ["a"], user: "b\0c" } },
      { meta: { args: ["a"], cgroupParent: "b\0c" } },
      { meta: { args: ["a"], extraHosts: [{ Host: "b\0c" }] } },
      { meta: { args: ["a"] }, mounts: [{ dest: "/" }, { dest: "b\0c" }] },
      { meta: { args: ["a"] }, mounts: [{ dest: "/", selector: "b\0c" }] },
    ].map((value, index): [string, Definition, RegExp] => [
      `an exec with a zero byte, ${index}`,
      definitionOf(() => image(), exec({ mounts: [{ dest: "/" }], ...value }), terminal),
      /invalid exec op: "[A=]*b\\u0000c" has a zero byte/,
    ]),
    [
      "a mount of an input that is not there",
      definitionOf(
        () => image(),
        exec({ meta: { args: ["a"] }, mounts: [{ dest: "/", input: 1n }] }),
        terminal,
      ),
      /mount "\/" refers to input 1, want -1 to 0/,
    ],
    [
      "a file op without actions",
      definitionOf(
        () => image(),
        (digests) => ({ inputs: input(digests), op: { case: "file", value: {} } }),
        terminal,
      ),
      /invalid file op with no actions/,
    ],
    [
      "an action on the result of a later one",
      definitionOf(
        () => image(),
        (digests) => ({
          inputs: input(digests),
          op: {
            case: "file",
            value: { actions: [{ input: 1n, secondaryInput: -1n, action: { case: "mkdir", value: {} } }] },
          },
        }),
        terminal,
      ),
      /action 0 refers to input 1/,
    ],
    [
      "a diff without its sides",
      definitionOf(
        () => image(),
        (digests) => ({ inputs: input(digests), op: { case: "diff", value: {} } }),
        terminal,
      ),
      /invalid diff op/,
    ],
    [
      "an output that an op does not have",
      definitionOf(
        () => image(),
        (digests) => ({ inputs: [{ digest: digests[0] ?? "", index: 1n }] }),
      ),
      /output 1 of sha256:.* is wanted, it has 1 outputs/,
    ],
  ];
  for (const [name, definition, text] of cases) {
    test(name, () => {
      assert.throws(
        () => loadDefinition(definition),
        (error) => {
          assert(error instanceof ServiceError);
          assert.equal(error.reason, "INVALID_ARGUMENT");
          assert.match(error.message, text);
          return true;
        },
      );
    });
  }

  test("more operations than allowed", () => {
    const definition = definitionOf(() => image(), terminal);
    assert.throws(() => loadDefinition(definition, { ...defaultLimits, maxOps: 1 }), {
      reason: "RESOURCE_EXHAUSTED",
    });
  });

  test("more bytes than allowed", () => {
    const definition = definitionOf(() => image(), terminal);
    assert.throws(() => loadDefinition(definition, { ...defaultLimits, maxBytes: 50 }), {
      reason: "RESOURCE_EXHAUSTED",
    });
  });

  test("a chain that is deeper than allowed, without running out of stack", () => {
    const links = Array.from(
      { length: defaultLimits.maxDepth },
      () =>
        (digests: string[]): OpInit => ({
          inputs: input(digests),
          op: { case: "merge", value: { inputs: [{ input: 0n }] } },
        }),
    );
    const chain = (length: number) => definitionOf(() => image(), ...links.slice(0, length), terminal);
    assert.equal(loadDefinition(chain(links.length - 1)).vertices.length, links.length);
    assert.throws(() => loadDefinition(chain(links.length)), { reason: "RESOURCE_EXHAUSTED" });
  });
});

test("names of nested merges do not grow without bound", () => {
  const twice = Array.from({ length: 64 }, () => (digests: string[]): OpInit => {
    const digest = digests.at(-1) ?? "";
    const value = { inputs: [{ input: 0n }, { input: 1n }] };
    return { inputs: [{ digest }, { digest }], op: { case: "merge", value } };
  });
  const graph = loadDefinition(definitionOf(() => image(), ...twice, terminal));
  assert.equal(graph.result.vertex.name.length, 4096);
});

describe("whatever bytes come in", () => {
  const refusedOrLoaded = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      assert(error instanceof ServiceError, String(error));
      assert(error.message.length < 1000);
    }
  };

  test("parseDefinition answers with a definition or a ServiceError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        refusedOrLoaded(() => loadDefinition(parseDefinition(bytes)));
      }),
      { numRuns: 500 },
    );
  });

  test("a real definition with changed bytes is loaded or refused", async () => {
    const real = await readFile(new URL("testdata/mounts.pb", import.meta.url));
    fc.assert(
      fc.property(fc.nat(real.length - 1), fc.nat(255), fc.nat(real.length), (at, value, length) => {
        const changed = Uint8Array.from(real.subarray(0, Math.max(length, at + 1)));
        changed[at] = value;
        refusedOrLoaded(() => loadDefinition(parseDefinition(changed)));
      }),
      { numRuns: 2000 },
    );
  });

  test("ops with arbitrary inputs are loaded or refused", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(5), fc.bigInt({ min: -5n, max: 5n }), fc.bigInt({ min: -2n, max: 4n })), {
          minLength: 1,
          maxLength: 12,
        }),
        (shape) => {
          const makers = shape.map(([from, index, mount]) => (digests: string[]): OpInit => {
            const digest = digests[from];
            return digest === undefined
              ? image(`docker-image://${from}`)
              : {
                  inputs: [{ digest, index }],
                  op: {
                    case: "exec",
                    value: { meta: { args: ["a"] }, mounts: [{ dest: "/", input: mount, output: index }] },
                  },
                };
          });
          refusedOrLoaded(() => loadDefinition(definitionOf(...makers, terminal)));
        },
      ),
    );
  });
});
