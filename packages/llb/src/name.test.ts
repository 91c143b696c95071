import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { OpSchema } from "@oci-worker/api/buildkit/llb";
import { opName } from "./name.ts";

type OpKind = NonNullable<MessageInitShape<typeof OpSchema>["op"]>;

describe("opName shows", () => {
  const local = (attrs: Record<string, string>): OpKind => ({
    case: "source",
    value: { identifier: "local://context", attrs },
  });
  const diff = (lower: bigint, upper: bigint): OpKind => ({
    case: "diff",
    value: { lower: { input: lower }, upper: { input: upper } },
  });
  const cases: [what: string, op: OpKind, inputs: string[], want: string][] = [
    ["a source by its identifier", { case: "source", value: { identifier: "git://x" } }, [], "git://x"],
    [
      "the one include pattern of a local source",
      local({ "local.includepattern": '["a"]' }),
      [],
      "local://context (a)",
    ],
    ["no pattern where there are two", local({ "local.includepattern": '["a","b"]' }), [], "local://context"],
    ["no pattern where it is no list", local({ "local.includepattern": "{" }), [], "local://context"],
    ["an exec by its arguments", { case: "exec", value: { meta: { args: ["a", "b c"] } } }, [], "a b c"],
    [
      "a file op by its actions",
      {
        case: "file",
        value: {
          actions: [
            { action: { case: "mkdir", value: { path: "/x" } } },
            { action: { case: "mkfile", value: { path: "/y" } } },
            { action: { case: "copy", value: { src: "a", dest: "b" } } },
            { action: { case: "rm", value: { path: "/z" } } },
          ],
        },
      },
      [],
      "mkdir /x, mkfile /y, copy a b, rm /z",
    ],
    ["a merge by what is merged", { case: "merge", value: {} }, ["a", "b"], "merge (a, b)"],
    ["a diff by its sides", diff(0n, 1n), ["a", "b"], "diff (a) -> (b)"],
    ["an empty side of a diff", diff(-1n, 0n), ["b"], "diff scratch -> (b)"],
    ["a build", { case: "build", value: {} }, [], "build"],
  ];
  for (const [what, op, inputs, want] of cases) {
    test(what, () => {
      assert.equal(opName(create(OpSchema, { op }), inputs), want);
    });
  }
});
