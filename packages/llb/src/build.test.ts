import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MountType, NetMode, SecurityMode } from "@oci-worker/api/buildkit/llb";
import { parsePlatform } from "@oci-worker/oci/platform";
import { parseReference } from "@oci-worker/oci/reference";
import { definitionOf, image, marshal, run, scratch } from "./build.ts";
import { loadDefinition, type Vertex } from "./definition.ts";

function execOf(vertex: Vertex) {
  assert.equal(vertex.op.op.case, "exec");
  return vertex.op.op.value;
}

test("an image and a step make the ops that BuildKit's own client makes", () => {
  const base = image(parseReference("busybox"), { platform: parsePlatform("linux/amd64") });
  const step = run({
    root: base,
    args: ["echo", "hi"],
    env: ["PATH=/bin"],
    ignoreCache: true,
    name: "say hi",
  });
  const { vertices, result } = loadDefinition(definitionOf(step.root));
  const [source, exec] = vertices;
  assert(source !== undefined && exec !== undefined);
  assert.equal(vertices.length, 2);
  assert.deepEqual(source.op.op, {
    case: "source",
    value: {
      $typeName: "pb.SourceOp",
      identifier: "docker-image://docker.io/library/busybox:latest",
      attrs: {},
    },
  });
  assert.equal(source.op.platform?.Architecture, "amd64");
  assert.deepEqual(source.metadata.caps, { "source.image": true });
  assert.equal(exec.digest, step.digest);
  assert.equal(exec.name, "say hi");
  assert.equal(exec.metadata.ignoreCache, true);
  assert.deepEqual(exec.metadata.caps, { "exec.meta.base": true, "exec.mount.bind": true });
  assert.deepEqual(execOf(exec).meta?.args, ["echo", "hi"]);
  assert.equal(execOf(exec).meta?.cwd, "/");
  assert.deepEqual(
    execOf(exec).mounts.map(({ dest, input, output }) => ({ dest, input, output })),
    [{ dest: "/", input: 0n, output: 0n }],
  );
  assert.equal(result.vertex, exec);
});

test("one tree has one sequence of bytes, however its maps were filled", () => {
  const build = (names: readonly string[]) => {
    const base = image(parseReference("a/b"));
    const steps = names.map((name) => run({ root: base, args: [name], network: "none" }));
    const mounts = steps.map((step, index) => ({
      type: "bind" as const,
      dest: `/m${index}`,
      from: step.root,
    }));
    return marshal(run({ root: base, args: ["x"], mounts, security: "insecure" }).root);
  };
  assert.deepEqual(build(["one", "two", "three"]), build(["one", "two", "three"]));
  assert.notDeepEqual(build(["one", "two", "three"]), build(["two", "one", "three"]));
});

test("every kind of mount says what it needs of the worker", () => {
  const base = image(parseReference("a/b"));
  const step = run({
    root: base,
    args: ["true"],
    network: "host",
    security: "insecure",
    readonlyRoot: true,
    extraHosts: [{ host: "db", ip: "10.0.0.7" }],
    limits: [{ name: "nofile", soft: 1n, hard: -1n }],
    cgroupParent: "builds",
    validExitCodes: [0, 3],
    secretEnv: [{ name: "TOKEN", id: "token" }],
    mounts: [
      { type: "tmpfs", dest: "/tmp", sizeBytes: 1024 },
      { type: "cache", dest: "/cache", id: "c", sharing: "locked" },
      { type: "bind", dest: "/again", from: base, selector: "bin" },
      { type: "bind", dest: "/dropped", from: base, discarded: true },
      { type: "bind", dest: "/empty", from: scratch },
      { type: "secret", dest: "/secret", id: "s", optional: true },
      { type: "ssh", dest: "/agent", id: "default" },
    ],
  });
  const tree = step.mounts.get("/empty");
  assert(tree !== undefined);
  const { vertices, result } = loadDefinition(definitionOf(tree));
  assert.equal(result.index, 1);
  const exec = vertices.at(-1);
  assert(exec !== undefined);
  assert.deepEqual(Object.keys(exec.metadata.caps), [
    "exec.meta.base",
    "exec.meta.cgroup.parent",
    "exec.meta.network",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.secret",
    "exec.mount.selector",
    "exec.mount.ssh",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.secretenv",
    "exec.validexitcode",
  ]);
  const { meta, mounts, network, security } = execOf(exec);
  assert.deepEqual(meta?.validExitCodes, [0, 3]);
  assert.deepEqual(
    meta?.extraHosts.map(({ Host, IP }) => [Host, IP]),
    [["db", "10.0.0.7"]],
  );
  assert.deepEqual(
    meta?.ulimit.map(({ Name, Soft, Hard }) => [Name, Soft, Hard]),
    [["nofile", 1n, -1n]],
  );
  assert.equal(meta?.cgroupParent, "builds");
  assert.equal(network, NetMode.HOST);
  assert.equal(security, SecurityMode.INSECURE);
  assert.deepEqual(
    mounts.map(({ dest, input, output, mountType }) => [dest, input, output, mountType]),
    [
      ["/", 0n, -1n, MountType.BIND],
      ["/again", 0n, 0n, MountType.BIND],
      ["/agent", -1n, -1n, MountType.SSH],
      ["/cache", -1n, -1n, MountType.CACHE],
      ["/dropped", 0n, -1n, MountType.BIND],
      ["/empty", -1n, 1n, MountType.BIND],
      ["/secret", -1n, -1n, MountType.SECRET],
      ["/tmp", -1n, -1n, MountType.TMPFS],
    ],
  );
  assert.equal(exec.op.inputs.length, 1);
  assert.equal(step.root, base);
});

describe("run refuses", () => {
  test("no arguments", () => {
    assert.throws(() => run({ root: scratch, args: [] }), /without arguments/);
  });
  test("two mounts at one place", () => {
    const mounts = [{ type: "tmpfs", dest: "/" }] as const;
    assert.throws(() => run({ root: scratch, args: ["x"], mounts }), /two mounts at "\/"/);
  });
});

test("the empty tree is the empty definition", () => {
  assert.deepEqual(definitionOf(scratch).def, []);
});

test("a deep chain is written without running out of stack", () => {
  let tree = image(parseReference("a/b"));
  for (let index = 0; index < 9000; index += 1) {
    tree = run({ root: tree, args: [String(index)] }).root;
  }
  assert.equal(loadDefinition(definitionOf(tree)).vertices.length, 9001);
});
