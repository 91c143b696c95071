import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { readMountInfo } from "@oci-worker/mounts/mountinfo";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { startContainerd } from "./peers/containerd.ts";
import { startSnapshotter } from "./peers/snapshotter.ts";

const program = join(import.meta.dirname, "../services/ociw/bin/ociw");

const digest = (digit: string) => `sha256:${digit.repeat(64)}`;

/** containerd's garbage collector removes what has not this label. */
const kept = { "containerd.io/gc.root": "test" };

interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `ociw snapshots` on one snapshotter, and that snapshotter itself. */
interface Setting {
  readonly direct: Snapshotter;
  ociw(...args: string[]): Promise<Ended>;
  /** The same on a terminal of its own, where somebody types `input`. */
  onTerminal(input: string, ...args: string[]): Promise<Ended>;
  /** What it writes, if all goes well. */
  output(...args: string[]): Promise<string>;
}

function run(args: readonly string[], environment: NodeJS.ProcessEnv): Promise<Ended> {
  return execute(program, ["snapshots", ...args], environment, "");
}

function execute(
  command: string,
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  input: string,
): Promise<Ended> {
  return new Promise((resolve) => {
    const env = { PATH: process.env["PATH"], LANG: "C.UTF-8", ...environment };
    const child = execFile(command, args, { env }, (_error, stdout, stderr) => {
      resolve({ exitCode: child.exitCode ?? -1, stdout, stderr });
    });
    child.stdin?.end(input);
  });
}

function settingOf(direct: Snapshotter, environment: NodeJS.ProcessEnv): Setting {
  return {
    direct,
    ociw: (...args) => run(args, environment),
    onTerminal(input, ...args) {
      // script(1) runs a command on a terminal of its own and passes on what that shows.
      const line = [program, "snapshots", ...args].join(" ");
      return execute("script", ["-qec", line, "/dev/null"], environment, input);
    },
    async output(...args) {
      const { exitCode, stdout, stderr } = await run(args, environment);
      assert.deepEqual([exitCode, stderr], [0, ""], args.join(" "));
      return stdout;
    },
  };
}

async function onOurs(backend: "native" | "overlayfs", use: (on: Setting) => Promise<void>): Promise<void> {
  await using peer = await startSnapshotter(backend);
  await use(settingOf(peer.direct, { OCI_WORKER_SNAPSHOTTER_ADDRESS: peer.address }));
}

async function onContainerd(use: (on: Setting) => Promise<void>): Promise<void> {
  await using containerd = await startContainerd();
  const { address, namespace } = containerd;
  await using direct = openProxy(address, { snapshotter: "overlayfs", namespace });
  await use(
    settingOf(direct, {
      OCI_WORKER_SNAPSHOTTER_ADDRESS: address,
      CONTAINERD_SNAPSHOTTER: "overlayfs",
      CONTAINERD_NAMESPACE: namespace,
    }),
  );
}

/** Two layers and an active snapshot that has changed something of both. */
async function fill({ direct }: Setting): Promise<void> {
  await using scratch = await mkdtempDisposable(join(tmpdir(), "inspected-"));
  const write = async (key: string, parent: string | undefined, change: (top: string) => Promise<void>) => {
    await using mounted = await mountTemporarily(await direct.prepare(key, parent, kept), scratch.path);
    await change(mounted.path);
  };
  await write("filling-1", undefined, async (top) => {
    await writeFile(join(top, "kept"), "kept\n");
    await writeFile(join(top, "gone"), "gone\n");
  });
  await direct.commit(digest("a"), "filling-1", kept);
  await write("filling-2", digest("a"), async (top) => {
    await writeFile(join(top, "kept"), "changed\n");
    await rm(join(top, "gone"));
  });
  await direct.commit(digest("b"), "filling-2", { ...kept, "containerd.io/snapshot/test": "1" });
  await write("container", digest("b"), (top) => writeFile(join(top, "added"), "1234567\n"));
}

const settings = {
  "oci-snapshotter with overlayfs": (use: (on: Setting) => Promise<void>) => onOurs("overlayfs", use),
  "oci-snapshotter with native": (use: (on: Setting) => Promise<void>) => onOurs("native", use),
  "containerd's overlayfs": onContainerd,
};

for (const [name, withSetting] of Object.entries(settings)) {
  describe(`ociw snapshots on ${name}`, () => {
    test("lists, draws, describes and measures snapshots", () =>
      withSetting(async (on) => {
        await fill(on);
        const listed = (await on.output("ls"))
          .trimEnd()
          .split("\n")
          .map((line) => line.split(/\s{2,}/));
        assert.deepEqual(
          listed.map(([key, kind, , parent]) => [key, kind, parent]),
          [
            ["KEY", "KIND", "PARENT"],
            [`sha256:${"a".repeat(12)}`, "committed", undefined],
            [`sha256:${"b".repeat(12)}`, "committed", `sha256:${"a".repeat(12)}`],
            ["container", "active", `sha256:${"b".repeat(12)}`],
          ],
        );
        assert.equal(await on.output("ls", "-q", "--filter", "kind==active"), "container\n");
        assert.equal(
          await on.output("ls", "-q", "--filter", 'labels."containerd.io/snapshot/test"==1'),
          `${digest("b")}\n`,
        );
        assert.equal(JSON.parse(await on.output("ls", "--json", "--size")).length, 3);
        assert.equal(
          await on.output("tree", "--quiet"),
          `sha256:${"a".repeat(12)}\n└ sha256:${"b".repeat(12)}\n  └ container\n`,
        );
        assert.match(await on.output("tree"), /└ container +active +[\d.]+k?B\n$/);
        const [root] = JSON.parse(await on.output("tree", "--json", digest("b")));
        assert.deepEqual([root.name, root.children[0].name], [digest("b"), "container"]);
        const [described] = JSON.parse(await on.output("info", "--json", "bbb"));
        assert.deepEqual(
          [described.name, described.parent, described.kind, described.labels["containerd.io/snapshot/test"]],
          [digest("b"), digest("a"), "committed", "1"],
        );
        assert.match(
          await on.output("info", "cont"),
          /^Key: +container\nKind: +active\nParent: +sha256:b{64}\n/,
        );
        const usages = (await on.output("usage", "--bytes", "aaa", "bbb")).split("\n");
        assert.match(usages[3] ?? "", /^total +[1-9]\d* +[2-9]$/);
        assert.match(
          await on.output("mounts", "container", "/some where"),
          /^mount -t \S+ -o .*'\/some where'\n$/,
        );
      }));

    test("lists what differs from the parent, and leaves no view and no mount", () =>
      withSetting(async (on) => {
        await fill(on);
        assert.equal(await on.output("diff", "container"), "A -0644      8B added\n");
        assert.equal(await on.output("diff", "bbb"), "D -0644       - gone\nC -0644      8B kept\n");
        assert.equal(await on.output("diff", "--quiet", "aaa"), "gone\nkept\n");
        assert.equal(await on.output("diff", "-q", "container", "aaa"), "added\ngone\nkept\n");
        const changes = JSON.parse(await on.output("diff", "--json", "container"));
        assert.deepEqual(changes, [{ kind: "A", path: "added", type: "file", mode: "0644", sizeBytes: 8 }]);
        assert.equal((await Array.fromAsync(on.direct.walk([]))).length, 3);
        const left = (await readMountInfo()).filter(({ mountPoint }) => mountPoint.includes("ociw-diff-"));
        assert.deepEqual(left, []);
      }));

    test("removes what it is told to, and asks before it takes more along", () =>
      withSetting(async (on) => {
        await fill(on);
        const refused = await on.ociw("rm", "aaa");
        assert.equal(refused.exitCode, 1);
        assert.match(refused.stderr, /^ociw: .*--recursive removes what stands on it, too\)\n$/);
        const unasked = await on.ociw("rm", "--recursive", "aaa");
        assert.equal(unasked.exitCode, 1);
        assert.match(unasked.stderr, /standard input is no terminal, want --force/);
        assert.equal((await Array.fromAsync(on.direct.walk([]))).length, 3);

        {
          await using scratch = await mkdtempDisposable(join(tmpdir(), "mounted-"));
          await using mounted = await mountTemporarily(await on.direct.mounts("container"), scratch.path);
          const inUse = await on.ociw("rm", "container");
          assert.equal(inUse.exitCode, 1);
          assert.equal(
            inUse.stderr,
            `ociw: Cannot remove "container": it is mounted at ${mounted.path}, want it unmounted first, or --force\n`,
          );
        }
        const missing = await on.ociw("rm", "nothing", "container");
        assert.deepEqual([missing.exitCode, missing.stdout], [1, "container\n"]);
        assert.match(missing.stderr, /Cannot find snapshot "nothing": there is none/);
        assert.equal(await on.output("rm", "--force", "nothing"), "");
        assert.equal(
          await on.output("rm", "--recursive", "--force", "aaa"),
          `${digest("b")}\n${digest("a")}\n`,
        );
        assert.deepEqual(await Array.fromAsync(on.direct.walk([])), []);
      }));
  });
}

test("ociw snapshots rm asks on a terminal, and does what it is answered", () =>
  onOurs("overlayfs", async (on) => {
    await fill(on);
    for (const [answer, left] of [
      ["n", 3],
      ["y", 0],
    ] as const) {
      const { stdout } = await on.onTerminal(`${answer}\n`, "rm", "--recursive", digest("a"));
      assert.match(
        stdout,
        /This will remove 3 snapshots:\r\n +container \(active\)\r\n +sha256:b{64} \(committed\)\r\n/,
      );
      assert.equal((await Array.fromAsync(on.direct.walk([]))).length, left, answer);
    }
  }));

test("ociw snapshots finds a key by what is unique of it, and says what else it may be", () =>
  onOurs("overlayfs", async (on) => {
    const keys = [
      `default/7/${digest("c")}`,
      `default/8/${digest("d")}`,
      "a.b[c]",
      "a.b[c] too",
      "axb[c] no",
      "\u001b[2Jred",
    ];
    for (const key of keys) {
      await on.direct.prepare(key, undefined, {});
    }
    const found = async (word: string) => JSON.parse(await on.output("info", "--json", "--", word))[0].name;
    assert.equal(await found("ccc"), keys[0]);
    assert.equal(await found("sha256:ddd"), keys[1]);
    assert.equal(await found("default/8"), keys[1]);
    assert.equal(await found("a.b[c]"), "a.b[c]");
    assert.equal(await found("a.b[c] t"), "a.b[c] too");
    assert.equal(
      await on.output("info", "\u001b[2J").then((text) => text.split("\n")[0]),
      "Key:       \\x1b[2Jred",
    );
    const ambiguous = await on.ociw("info", "a.b");
    assert.equal(ambiguous.exitCode, 1);
    assert.equal(
      ambiguous.stderr,
      'ociw: Cannot tell which snapshot "a.b" is: it may be a.b[c], a.b[c] too, want more of its key\n',
    );
    const missing = await on.ociw("info", "b[c]");
    assert.match(missing.stderr, /^ociw: Cannot find snapshot "b\[c\]": there is none whose key begins so/);
    assert.match(await on.output("mounts", digest("c").slice(0, 9)), /^TYPE +SOURCE +OPTIONS\nbind /);
  }));

test("ociw snapshots says what to do about a snapshotter or a name that is not there", async () => {
  const nowhere = await run(["ls"], { OCI_WORKER_SNAPSHOTTER_ADDRESS: "/nowhere/s.sock" });
  assert.equal(nowhere.exitCode, 1);
  assert.match(nowhere.stderr, /^ociw: Cannot reach \/nowhere\/s\.sock: .*--snapshotter-address\?\n$/);
  await onContainerd(async (on) => {
    for (const name of ["nothing", ""]) {
      const { exitCode, stderr } = await on.ociw("ls", `--snapshotter=${name}`);
      assert.equal(exitCode, 1);
      assert.match(stderr, /want --snapshotter with the name of one of its plugins, such as overlayfs\n$/);
    }
  });
});
