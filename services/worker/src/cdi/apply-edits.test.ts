import assert from "node:assert/strict";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { runtimeSpec } from "../executor/oci-spec.ts";
import { fixture, run, runtimes, step } from "../executor/sample-image.ts";
import { plainInput } from "../executor/sample-spec.ts";
import { applyEdits } from "./apply-edits.ts";
import type { ContainerEdits, DeviceNode } from "./container-edits.ts";
import { parseSpec } from "./parse-spec.ts";

/** What a specification with `edits` changes of a container. */
function edits(value: Record<string, unknown>): ContainerEdits {
  const devices = [{ name: "x", containerEdits: value }];
  const [device] = parseSpec(JSON.stringify({ cdiVersion: "1.1.0", kind: "v.com/c", devices })).devices;
  assert(device !== undefined);
  return device.edits;
}

for (const runtime of runtimes) {
  describe(`a step with a device under ${basename(runtime)}`, () => {
    test("has its nodes: the host's, or those that its specification describes", async () => {
      await using on = await fixture(runtime);
      const deviceNodes = [
        { path: "/dev/mine", hostPath: "/dev/full" },
        { path: "/dev/deep/er", type: "c", major: 1, minor: 3, fileMode: 0o640, uid: 5, gid: 6 },
        { path: "/dev/null", hostPath: "/dev/zero" },
      ];
      const script = `stat -c '%F %t:%T %a %u:%g' /dev/mine /dev/deep/er /dev/null
        echo x >/dev/mine; head -c 2 /dev/null | grep -c . ; echo`;
      const given = { edits: edits({ deviceNodes }) };
      const { stdout, stderr } = await run(on.executor, step(on.image, ["sh", "-c", script], given));
      assert.match(stdout, /^character special file 1:7 666 0:0\ncharacter special file 1:3 640 5:6\n/);
      assert.match(stdout, /\ncharacter special file 1:5 666 0:0\n/);
      assert.match(stderr, /No space left on device/);
    });

    test("may do with them what its specification says", async () => {
      await using on = await fixture(runtime);
      // /dev/fuse, which no container may open by itself; whether there is a driver is none of the test's business.
      const node = { type: "c", major: 10, minor: 229 };
      const deviceNodes = [{ ...node, path: "/dev/readable", permissions: "r" }];
      const script = `(: </dev/readable) 2>&1 | grep -c 'not permitted'; (: >/dev/readable) 2>&1 | grep -c 'not permitted'`;
      const outputOf = async (value: Record<string, unknown>) =>
        (await run(on.executor, step(on.image, ["sh", "-c", script], { edits: edits(value) }))).stdout;
      assert.equal(await outputOf({ deviceNodes }), "0\n1\n");
      assert.equal(await outputOf({ deviceNodes: [{ ...deviceNodes[0], permissions: "" }] }), "0\n0\n");
      assert.equal(await outputOf({ deviceNodes: [{ ...deviceNodes[0], permissions: "none" }] }), "1\n1\n");
    });

    test("owns them, and is in their groups", async () => {
      await using on = await fixture(runtime);
      const given = edits({
        deviceNodes: [{ path: "/dev/mine", hostPath: "/dev/null" }],
        additionalGids: [0, 44],
      });
      const script = "stat -c %u:%g /dev/mine; id -G";
      const asked = step(on.image, ["sh", "-c", script], { edits: given, user: "app" });
      assert.equal((await run(on.executor, asked)).stdout, "1000:1001\n1001 44 2000\n");
    });

    test("has its variables, in the place of its own ones", async () => {
      await using on = await fixture(runtime);
      const given = { edits: edits({ env: ["A=device", "B=device"] }), env: ["A=step", "PATH=/bin"] };
      const { stdout } = await run(on.executor, step(on.image, ["env"], given));
      assert.match(stdout, /^A=device$/m);
      assert.match(stdout, /^B=device$/m);
      assert.doesNotMatch(stdout, /A=step/);
    });

    test("has its mounts, beneath which its own are, and leaves no trace of them", async () => {
      await using on = await fixture(runtime);
      const library = join(on.path, "library");
      await mkdir(join(library, "cache"), { recursive: true });
      await writeFile(join(library, "file"), "of the device\n");
      const before = await readdir(on.image, { recursive: true });
      const mounts = [
        { hostPath: library, containerPath: "/opt/library", options: ["ro", "nosuid", "nodev", "bind"] },
        {
          hostPath: join(library, "file"),
          containerPath: "/lib/deep/file",
          options: ["ro", "rbind"],
          type: "none",
        },
        { hostPath: "tmpfs", containerPath: "/scratch", type: "tmpfs" },
      ];
      const own = {
        kind: "tmpfs",
        destination: "/opt/library/cache",
        sizeBytes: 0n,
        writable: true,
      } as const;
      const given = edits({ mounts, deviceNodes: [{ path: "/node", hostPath: "/dev/null" }] });
      const script = `cat /opt/library/file /lib/deep/file; touch /opt/library/cache/x /scratch/x && echo written
        test -c /node && echo node; touch /opt/library/x`;
      const { stdout, stderr } = await run(
        on.executor,
        step(on.image, ["sh", "-c", script], { edits: given, mounts: [own] }),
      );
      assert.equal(stdout, "of the device\nof the device\nwritten\nnode\n", stderr);
      assert.match(stderr, /\/opt\/library\/x: Read-only file system/);
      assert.deepEqual(await readdir(on.image, { recursive: true }), before);
    });

    test("runs its hooks, and fails with one that fails", async () => {
      await using on = await fixture(runtime);
      const hook = join(on.path, "hook");
      await writeFile(hook, '#!/bin/sh\nread -r state\necho "$NAME $1 $state" >>"$2"\nexit "$CODE"\n');
      await chmod(hook, 0o755);
      const trace = join(on.path, "trace");
      const hookAt = (hookName: string, code: number) => ({
        hookName,
        path: hook,
        args: ["hook", hookName, trace],
        env: [`NAME=${hookName}`, `CODE=${code}`],
        timeout: 20,
      });
      const hooks = [hookAt("createRuntime", 0), hookAt("poststop", 0)];
      const asked = step(on.image, ["true"], { edits: edits({ hooks }) });
      assert.equal((await run(on.executor, asked)).code, 0);
      const lines = (await readFile(trace, "utf8")).trim().split("\n");
      assert.deepEqual(
        lines.map((line) => line.split(" {")[0]),
        ["createRuntime createRuntime", "poststop poststop"],
      );
      assert(
        lines.every((line) => line.includes(asked.id)),
        "each is told of which container",
      );
      const failing = step(on.image, ["true"], { edits: edits({ hooks: [hookAt("createRuntime", 7)] }) });
      const { code, complaint } = await run(on.executor, failing);
      assert.notEqual(code, 0);
      assert.match(complaint, /hook/);
    });

    test("fails if the host lacks what it needs", async () => {
      await using on = await fixture(runtime);
      const fail = (value: Record<string, unknown>, message: RegExp) =>
        assert.rejects(run(on.executor, step(on.image, ["true"], { edits: edits(value) })), (error) => {
          assert(error instanceof FailedPreconditionError, String(error));
          assert.match(error.message, message);
          return true;
        });
      const missing = join(on.path, "missing");
      await fail(
        { deviceNodes: [{ path: missing }] },
        /^failed to stat CDI host device ".*\/missing": ENOENT/,
      );
      await fail({ deviceNodes: [{ path: "/dev/x", hostPath: on.image }] }, /it is no device, want one/);
      await fail(
        { deviceNodes: [{ path: "/dev/null", type: "b" }] },
        /\/dev\/null of the host is of type c, want b/,
      );
      await fail(
        { netDevices: [{ hostInterfaceName: "eth9", name: "eth0" }] },
        /asks for netDevices, which this worker cannot do/,
      );
    });
  });
}

describe("the spec of a step with a device", () => {
  const plain = runtimeSpec(plainInput);

  test("is the plain one with the edits in it and nothing else", () => {
    const given = edits({ intelRdt: { closID: "gpu" }, env: ["A=b"] });
    assert.deepEqual(applyEdits(plain, given, false), {
      ...plain,
      process: { ...plain.process, env: ["A=b"] },
      linux: { ...plain.linux, intelRdt: { closID: "gpu" } },
    });
  });

  test("has what it does not say of a node from the host, and all it says from there", () => {
    const devicesOf = (node: Partial<DeviceNode>) =>
      applyEdits(plain, edits({ deviceNodes: [{ path: "/dev/null", ...node }] }), false).linux.devices;
    const host = { path: "/dev/null", type: "c", major: 1, minor: 3, fileMode: 0o666 };
    assert.deepEqual(devicesOf({}), [host]);
    assert.deepEqual(devicesOf({ major: 9, minor: 8 }), [{ ...host, major: 9, minor: 8 }]);
    assert.deepEqual(devicesOf({ type: "u" }), [{ ...host, type: "u" }]);
    const whole = { path: "/dev/nowhere", type: "b", major: 259, minor: 1_000_000 } as const;
    assert.deepEqual(devicesOf(whole), [whole]);
    assert.deepEqual(devicesOf({ path: "/dev/nowhere", type: "p" }), [
      { path: "/dev/nowhere", type: "p", major: 0, minor: 0 },
    ]);
  });

  test("binds the host's nodes where none can be made", () => {
    const deviceNodes = [
      { path: "/dev/mine", hostPath: "/dev/null" },
      { path: "/dev/zero", permissions: "r" },
    ];
    const { linux, mounts } = applyEdits(plain, edits({ deviceNodes }), true);
    const full = { allow: true, type: "c", major: 1, minor: 3, access: "rwm" };
    const zero = { allow: true, type: "c", major: 1, minor: 5, access: "r" };
    const rules = [...(plain.linux.resources?.devices ?? []), full, zero];
    assert.deepEqual(linux, { ...plain.linux, resources: { devices: rules } });
    assert.deepEqual(
      mounts.filter(({ destination }) => /^\/dev\/(mine|zero)$/.test(destination)),
      [
        {
          destination: "/dev/mine",
          type: "bind",
          source: "/dev/null",
          options: ["bind", "nosuid", "noexec"],
        },
        {
          destination: "/dev/zero",
          type: "bind",
          source: "/dev/zero",
          options: ["bind", "nosuid", "noexec", "ro"],
        },
      ],
    );
  });
});
