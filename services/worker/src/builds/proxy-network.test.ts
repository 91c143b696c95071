import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { type NetMode, OpSchema } from "@oci-worker/api/buildkit/llb";
import { definitionOf, image, type RunOptions, run, type Tree } from "@oci-worker/llb/build";
import { type Graph, loadDefinition } from "@oci-worker/llb/definition";
import { parseReference } from "@oci-worker/oci/reference";
import { throughProxy } from "./proxy-network.ts";

const base = image(parseReference("busybox"));

const after = (root: Tree, network: NonNullable<RunOptions["network"]>) =>
  run({ root, args: [network], network }).root;

const graphOf = (tree: Tree): Graph => loadDefinition(definitionOf(tree));

test("every step that has a network is proxied, and with all that needs one no longer that of other builds", () => {
  const tree = after(after(after(after(base, "none"), "sandbox"), "none"), "host");
  const { vertices } = throughProxy(graphOf(tree));
  assert.deepEqual(
    vertices.map(({ proxied, variant }) => [proxied, variant]),
    [
      [undefined, undefined],
      [undefined, undefined],
      [true, "proxied"],
      [false, "proxied"],
      [true, "proxied"],
    ],
  );
});

test("what else tells a step from others still does", () => {
  const graph = graphOf(after(base, "sandbox"));
  const vertices = graph.vertices.map((vertex) => ({ ...vertex, variant: "devices" }));
  assert.deepEqual(
    throughProxy({ ...graph, vertices }).vertices.map(({ variant }) => variant),
    ["devices", "devices-proxied"],
  );
});

test("a network that no proxy reaches is refused", () => {
  const graph = graphOf(after(base, "sandbox"));
  const vertices = graph.vertices.map((vertex) => ({
    ...vertex,
    op: create(OpSchema, { op: { case: "exec", value: { network: 3 as NetMode } } }),
  }));
  assert.throws(
    () => throughProxy({ ...graph, vertices }),
    /network mode 3 is not allowed when proxy network is enabled/,
  );
});
