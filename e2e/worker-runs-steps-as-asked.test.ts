import assert from "node:assert/strict";
import { mkdtempDisposable, readdir, readlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import type { BuildOptions } from "@oci-worker/client/build";
import { BuildError } from "@oci-worker/client/build-error";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { definitionOf, image, type RunOptions, run, scratch, type Tree } from "@oci-worker/llb/build";
import { cgroupsOfStep, removeCgroups } from "./peers/cgroups.ts";
import { assembleImage, layerOf, programs } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { type RegistryPeer, startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerOptions, type WorkerPeer } from "./peers/worker.ts";

const crun = join(import.meta.dirname, "../services/worker/src/executor/sample-crun.sh");

const file = (name: string, text = ""): TarMember => ({ type: "file", name, content: Buffer.from(text) });

/** What the image has beside its programs: users, and places for what every step is shown. */
const files: readonly TarMember[] = [
  { type: "directory", name: "result/" },
  file("etc/hosts"),
  file("etc/resolv.conf"),
  file("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"),
  file("etc/group", "app:x:1001:\nextra:x:2000:app\n"),
];

/** A worker, and a registry with an image that has {@link files}. */
async function fixture(options: WorkerOptions = {}) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const base = await pushed(registry, files);
  const worker = undo.use(await startWorker(options));
  const owned = undo.move();
  return { registry, base, worker, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** An image in `registry` that has `members` beside its programs. */
async function pushed(
  registry: RegistryPeer,
  members: readonly TarMember[],
  repository?: string,
): Promise<Tree> {
  const layers = [await layerOf(await programs()), await layerOf(members)];
  return image(await pushTo(registry, assembleImage(layers), repository));
}

function step(root: Tree, script: string, more: Partial<RunOptions> = {}): Tree {
  return run({ root, args: ["sh", "-c", script], env: ["PATH=/bin"], ...more }).root;
}

/** Builds `tree` to its end, and gives what its steps have written; `onOutput` is told all of that so far. */
async function outputOf(
  { client }: WorkerPeer,
  tree: Tree,
  options: BuildOptions = {},
  onOutput: (all: string) => void = () => undefined,
): Promise<string> {
  const build = client.solve(definitionOf(tree), options);
  build.result.catch(() => undefined);
  let output = "";
  for await (const { logs } of build.status) {
    output += logs.map(({ data }) => Buffer.from(data).toString()).join("");
    onOutput(output);
  }
  await build.result;
  return output;
}

function fails(promise: Promise<unknown>, message: RegExp): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert(error instanceof BuildError, String(error));
    assert.match(error.message, message);
    return true;
  });
}

for (const runtime of ["runc", crun]) {
  describe(`a step under ${basename(runtime)}`, () => {
    const args = ["--oci-worker-binary", runtime];

    test("is who, where and called what it asks to be, knows the hosts and has the limits that it names", async () => {
      await using on = await fixture({ args });
      const script =
        "id -u; id -g; id -G; pwd; stat -c '%u %a' .; busybox hostname; ulimit -n; ulimit -Hn; ulimit -c; cat /etc/hosts";
      const output = await outputOf(
        on.worker,
        step(on.base, script, {
          user: "app",
          cwd: "/made/here",
          hostname: "box",
          extraHosts: [
            { host: "db", ip: "10.0.0.7" },
            { host: "six", ip: "fd00::7" },
          ],
          limits: [
            { name: "nofile", soft: 1000n, hard: 2000n },
            { name: "core", soft: -1n, hard: -1n },
          ],
        }),
      );
      assert.deepEqual(output.trim().split("\n"), [
        ...["1000", "1001", "1001 2000", "/made/here", "1000 755", "box", "1000", "2000", "unlimited"],
        "127.0.0.1\tlocalhost box",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "10.0.0.7\tdb",
        "fd00::7\tsix",
      ]);
    });

    test("is in the cgroup that it asks for, whatever the worker's is", async () => {
      const cgroupParent = `step-e2e-${process.pid}`;
      const config = '[worker.oci]\ndefaultCgroupParent = "not-this-one"\n';
      await using undo = new AsyncDisposableStack();
      undo.defer(() => removeCgroups(cgroupParent));
      await using on = await fixture({ args, config });
      const output = await cgroupsOfStep(on.worker, { root: on.base, cgroupParent });
      assert.match(output, new RegExp(`/${cgroupParent}/buildkit/[0-9a-z]{25}$`, "m"));
      assert.doesNotMatch(output, /not-this-one/);
    });

    test("has memory of the size that it asks for, and a root that it cannot write to", async () => {
      await using on = await fixture({ args });
      const script = "touch /x; yes > /tmp/x; stat -c %s /tmp/x; stat -fc %T /tmp; echo kept > /result/file";
      const { mounts } = run({
        root: on.base,
        args: ["sh", "-c", script],
        env: ["PATH=/bin"],
        readonlyRoot: true,
        mounts: [
          { type: "tmpfs", dest: "/tmp", sizeBytes: 1 << 20 },
          { type: "bind", dest: "/result", from: scratch },
        ],
      });
      const result = mounts.get("/result");
      assert(result !== undefined && mounts.size === 1);
      await using directory = await mkdtempDisposable(join(tmpdir(), "output-"));
      const output = await outputOf(on.worker, result, {
        output: { type: "local", directory: directory.path },
      });
      assert.match(output, /^touch: \/x: Read-only file system$/m);
      assert.match(output, /No space left on device/);
      assert.match(output, /^1048576\ntmpfs$/m);
      assert.deepEqual(await readdir(directory.path), ["file"]);
    });

    test("has its name servers behind the link that an image of a systemd host has, and leaves nothing there", async () => {
      await using on = await fixture({ args, config: '[dns]\nnameservers = ["192.0.2.53"]\n' });
      const linkName = "../run/systemd/resolve/stub-resolv.conf";
      const members: readonly TarMember[] = [{ type: "symlink", name: "etc/resolv.conf", linkName }];
      const base = await pushed(on.registry, members, "test/systemd");
      await using directory = await mkdtempDisposable(join(tmpdir(), "output-"));
      const tree = step(base, "cat /etc/resolv.conf; ls -A /run/systemd/resolve");
      const output = await outputOf(on.worker, tree, {
        output: { type: "local", directory: directory.path },
      });
      assert.match(output, /^nameserver 192\.0\.2\.53\n(.*\n)*stub-resolv\.conf\n$/);
      assert(!(await readdir(directory.path)).includes("run"), "a mount point is left");
      assert.deepEqual(await readdir(join(directory.path, "etc")), ["resolv.conf"]);
      assert.equal(await readlink(join(directory.path, "etc/resolv.conf")), linkName);
    });

    test("leaves no mount points behind, and directories with the times that they had", async () => {
      await using on = await fixture({ args });
      const old = step(on.base, "mkdir /old; echo mine > /old/file; touch -d @1000000000 /old /old/file");
      const mounts = [
        { type: "tmpfs", dest: "/old/deep/er" },
        { type: "cache", dest: "/old/cache", id: "c" },
        { type: "secret", dest: "/old/secret", id: "s", optional: true },
      ] as const;
      const mounted = step(old, "touch /old/deep/er/x /old/cache/y", { mounts });
      assert.equal(
        await outputOf(on.worker, step(mounted, "ls -A /old; stat -c %Y /old")),
        "file\n1000000000\n",
      );
    });
  });
}

describe("a step", () => {
  test("sees the part of a tree that it selects, and nothing beyond that tree", async () => {
    await using on = await fixture();
    const tree = step(
      on.base,
      "mkdir /part; echo inner > /part/file; ln -s part /link; ln -s ../../../../../../etc /out; ln -s /nowhere /dangling",
    );
    const see = (selector: string, script: string) =>
      outputOf(
        on.worker,
        step(on.base, script, {
          mounts: [{ type: "bind", dest: "/seen", from: tree, selector, readonly: true }],
        }),
      );
    assert.equal(await see("part/file", "cat /seen"), "inner\n");
    assert.equal(
      await see("/link/../link", "ls /seen; touch /seen/x || true"),
      "file\ntouch: /seen/x: Read-only file system\n",
    );
    assert.equal(await see("/out", "ls /seen"), "group\nhosts\npasswd\nresolv.conf\n");
    assert.equal(await see("../../../../part", "ls /seen"), "file\n");
    for (const selector of ["/dangling", "/absent", "/part/file/x", "x".repeat(300)]) {
      await fails(
        see(selector, "true"),
        /Cannot mount ".*" at \/seen: there is no such path in its snapshot/,
      );
    }
  });

  test("is refused what cannot be, by name", async () => {
    await using on = await fixture();
    const refused: readonly [Partial<RunOptions>, RegExp][] = [
      [{ user: "nobody" }, /unable to find user nobody: no matching entries in passwd file/],
      [{ user: "app:none" }, /unable to find group none: no matching entries in group file/],
      [{ user: "4294967295" }, /Cannot run as id 4294967295: want 0 to 2147483647/],
      [{ cwd: "/etc/passwd/x" }, /working dir \/etc\/passwd\/x points to invalid target/],
      [{ cwd: "/proc/self/fd/3" }, /working dir \/proc\/self\/fd\/3 points to invalid target/],
      [{ cwd: `/${"x".repeat(300)}` }, /Cannot follow \/x{99} in the image: it is too long/],
      [{ cwd: "/a\0b" }, /invalid exec op: "\/a\\u0000b" has a zero byte/],
      [
        { mounts: [{ type: "tmpfs", dest: `/${"x".repeat(300)}` }] },
        /Cannot follow \/x{99} in the image: it is too long/,
      ],
      [{ hostname: "two words" }, /"two words" as hostname/],
      [{ extraHosts: [{ host: "db", ip: "10.0.0" }] }, /failed to parse IP "10\.0\.0" of host db/],
      [{ limits: [{ name: "patience", soft: 1n, hard: 1n }] }, /invalid ulimit type: "patience"/],
      [{ cgroupParent: "../x" }, /"\.\.\/x" as cgroup parent: want a path without "\.\."/],
      [{ mounts: [{ type: "tmpfs", dest: "/proc/self" }] }, /Cannot mount at \/proc\/self: it is in \/proc/],
    ];
    for (const [more, message] of refused) {
      await fails(outputOf(on.worker, step(on.base, "true", more)), message);
    }
    await on.worker.assertClean();
  });

  test("is refused in an image that lies in wait for whoever looks up a user or a directory in it", async () => {
    const link = (name: string, linkName: string): TarMember => ({ type: "symlink", name, linkName });
    const device = { deviceMajor: 1, deviceMinor: 5 };
    const traps: readonly [members: readonly TarMember[], more: Partial<RunOptions>, message: RegExp][] = [
      [
        [{ type: "fifo", name: "etc/passwd" }],
        { user: "app" },
        /\/etc\/passwd of the image: it is no regular file/,
      ],
      [
        [{ type: "character device", name: "etc/passwd", ...device }],
        { user: "app" },
        /\/etc\/passwd of the image: it is no regular file/,
      ],
      [
        [link("etc/passwd", "../../../../../../proc/1/root/etc/passwd")],
        { user: "root" },
        /unable to find user root/,
      ],
      [
        [file("etc/passwd", "a".repeat(11 << 20))],
        { user: "app" },
        /it has 11534336 bytes, want at most 10485760/,
      ],
      [
        [link("a", "b"), link("b", "a")],
        { cwd: "/a/x" },
        /Cannot follow \/a\/x in the image: more than 40 links/,
      ],
      [
        [link("a", "/etc/passwd"), file("etc/passwd")],
        { cwd: "/a" },
        /working dir \/a points to invalid target/,
      ],
    ];
    await using on = await fixture();
    for (const [index, [members, more, message]] of traps.entries()) {
      const base = await pushed(on.registry, members, `test/trap-${index}`);
      await fails(outputOf(on.worker, step(base, "true", more)), message);
    }
    await on.worker.assertClean();
  });

  test("that writes too much is clipped, and shows its end if it fails", async () => {
    await using on = await fixture({ environment: { BUILDKIT_STEP_LOG_MAX_SIZE: "1000" } });
    const script = "i=0; while test $i -lt 1000; do echo line $i; i=$((i + 1)); done";
    const clipped = /^line 0\n[\s\S]*\n\[output clipped, log limit 1000B reached\]\n/;
    const short = await outputOf(on.worker, step(on.base, script));
    assert.match(short, clipped);
    assert.equal(short.replace(clipped, ""), "");
    let output = "";
    const failing = outputOf(on.worker, step(on.base, `${script}; exit 3`), {}, (all) => {
      output = all;
    });
    await fails(failing, /exit code: 3$/);
    assert.match(output, clipped);
    assert(output.endsWith("\nline 998\nline 999\n"));
  });
});
