import "./peers/enter-own-namespaces.ts";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmod, lstat, mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { BuildError } from "@oci-worker/client/build-error";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { assembleImage, layerOf } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import {
  labelOf,
  openToAll,
  outputOf,
  processesWith,
  type RootlessOptions,
  type RootlessWorker,
  startRootlessWorker,
  step,
} from "./peers/rootless-worker.ts";
import { makeUser, type UnprivilegedUser } from "./peers/unprivileged-user.ts";

const mappedRoot =
  /rootless mode requires to be executed as the mapped root in a user namespace; you may use RootlessKit for setting up the namespace/;

const program = join(import.meta.dirname, "../services/worker/bin/oci-worker");

async function failureOf(command: string, args: readonly string[]): Promise<string> {
  const error = await promisify(execFile)(command, args).then(
    () => assert.fail("it has started and ended well"),
    (thrown: { readonly code: number; readonly stderr: string }) => thrown,
  );
  assert.equal(error.code, 1);
  return error.stderr;
}

// fuse-overlayfs wants it, and the test has a mount name space of its own.
const undo = new AsyncDisposableStack();
before(async () => void undo.use(await openToAll("/dev/fuse", 10, 229)));
after(() => undo.disposeAsync());

/** What builds are made with: what is found and chosen by itself, and what the user asks for. */
const kinds: readonly {
  readonly name: string;
  /** What the worker says that it keeps snapshots with. */
  readonly snapshotter: string;
  readonly args: NonNullable<RootlessOptions["args"]>;
}[] = [
  { name: "runc and overlayfs", snapshotter: "overlayfs", args: () => [] },
  {
    name: "crun",
    snapshotter: "overlayfs",
    args: ({ repository }) => [
      "--oci-worker-binary",
      join(repository, "services/worker/src/executor/sample-crun.sh"),
    ],
  },
  {
    name: "fuse-overlayfs",
    snapshotter: "fuse-overlayfs",
    args: () => ["--oci-worker-snapshotter=fuse-overlayfs"],
  },
];

for (const { name, snapshotter, args } of kinds) {
  describe(`an unprivileged user's worker, with ${name},`, () => {
    test("pulls an image, runs a step and gives its result, with nothing but the user's own", async () => {
      await using on = await startRootlessWorker({ args });
      assert.equal(await labelOf(on.client, "network"), "host");
      assert.equal(await labelOf(on.client, "snapshotter"), snapshotter);
      assert.equal(await labelOf(on.client, "oci.process-mode"), "sandbox");
      const script = `cat /proc/self/uid_map; stat -c '%u %g %a' /etc/owned; ls /dev/kmsg; ls /sys
        echo made > /made && busybox chown 7:8 /made && ls /proc | busybox grep -c '^[0-9]'`;
      const tree = step(on, script);
      await using directory = await mkdtempDisposable(join(tmpdir(), "output-"));
      const build = on.client.solve(definitionOf(tree), {
        output: { type: "local", directory: directory.path },
      });
      const [own, subordinate, owned, processes, ...others] = (await outputOf(build)).trim().split("\n");
      assert.match(own ?? "", new RegExp(`^\\s*0\\s+${on.user.uid}\\s+1$`));
      assert.match(subordinate ?? "", new RegExp(`^\\s*1\\s+${on.user.firstSubordinate}\\s+65536$`));
      assert.equal(owned, "1000 1001 4755");
      assert(Number(processes) < 6, `it sees ${processes} processes, want its own`);
      assert.deepEqual(others, [], "no device and no /sys");
      assert.equal(await readFile(join(directory.path, "made"), "utf8"), "made\n");
      const state = join(on.user.home, ".local/share/oci-worker/worker");
      assert.equal((await lstat(state)).uid, on.user.uid);
    });

    test("mounts what a step asks for, on a file system with flags that it may not lift", async () => {
      await using on = await startRootlessWorker({ args });
      const other = step(on, "echo other > /file");
      const { root } = run({
        root: image(on.reference),
        args: [
          "sh",
          "-c",
          "cat /in/file; touch /in/x; echo kept > /cache/x; cat /cache/x; busybox grep -E ' /(in|cache) ' /proc/mounts",
        ],
        env: ["PATH=/bin"],
        mounts: [
          { type: "bind", dest: "/in", from: other, readonly: true },
          { type: "cache", dest: "/cache", id: "kept" },
          { type: "tmpfs", dest: "/memory" },
        ],
      });
      const [file, kept, ...mounted] = (await outputOf(on.client.solve(definitionOf(root)))).split("\n");
      assert.deepEqual([file, kept], ["other", "kept"]);
      assert.match(mounted.join("\n"), / \/in \S+ ro,/);
      // Those of the user's home, which only root could lift.
      assert.match(mounted.join("\n"), / \/cache \S+ rw,nosuid,nodev,/);
    });
  });

  describe(`steps, with ${name},`, () => {
    const marker = `${process.pid}123`;
    const withoutSandbox = (user: UnprivilegedUser) => [...args(user), "--oci-worker-no-process-sandbox"];
    const leaveBehind = `busybox setsid sleep ${marker} & sleep ${marker} & echo started`;

    test("without a sandbox for processes see those of the worker, and leave none behind", async () => {
      await using on = await startRootlessWorker({ args: withoutSandbox });
      await on.worker.said(/NoProcessSandbox is enabled/);
      assert.equal(await labelOf(on.client, "oci.process-mode"), "no-sandbox");
      const tree = step(on, `${leaveBehind}; ls /proc | busybox grep -qx ${process.pid} && echo seen`);
      assert.equal(await outputOf(on.client.solve(definitionOf(tree))), "started\nseen\n");
      assert.deepEqual(await processesWith(marker), []);
    });

    test("without one leave none behind when they are canceled, either", async () => {
      await using on = await startRootlessWorker({ args: withoutSandbox });
      const controller = new AbortController();
      const tree = step(on, `${leaveBehind}; sleep ${marker}`);
      const build = on.client.solve(definitionOf(tree), { signal: controller.signal });
      const ended = assert.rejects(build.result);
      for await (const { logs } of build.status) {
        if (logs.length > 0) {
          controller.abort();
          break;
        }
      }
      await ended;
      await untilNoStep(on);
      assert.deepEqual(await processesWith(marker), []);
    });
  });
}

/** The worker has ended, which it does not before its steps have. */
async function untilNoStep({ worker, user }: RootlessWorker): Promise<void> {
  await worker.stop();
  const bundles = join(user.home, ".local/share/oci-worker/worker/executor");
  assert.deepEqual(await readdir(bundles), []);
}

describe("an unprivileged user's worker", () => {
  test("has networks of its own for steps that ask for none", async () => {
    await using on = await startRootlessWorker();
    const tree = step(on, "busybox ip -o link show | busybox awk '{ print $2, $3 }'", { network: "none" });
    assert.match(await outputOf(on.client.solve(definitionOf(tree))), /^lo: <LOOPBACK,UP[^\n]*>\n$/);
  });

  test("lets steps reach the network by a proxy alone, though it cannot come back into the host's from theirs", async () => {
    await using server = createServer((_, response) => response.end("hello\n"));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    await using on = await startRootlessWorker();
    const ask = `busybox wget -qO- ${url} || echo out of reach`;
    const tree = step(on, `${ask}; unset http_proxy; ${ask}`);
    const build = on.client.solve(definitionOf(tree), { proxyNetwork: true });
    assert.equal(await outputOf(build), "hello\nout of reach\n");
  });

  test("gives steps a bridge in RootlessKit's network, if its config says so", async () => {
    await using _tun = await openToAll("/dev/net/tun", 10, 200);
    // From inside, slirp4netns shows the loopback device of the network outside at this address.
    const outside = (host: string) => `10.0.2.2:${host.split(":")[1]}`;
    const config = (host: string) =>
      `[worker.oci]\nnetworkMode = "bridge"\n[registry.${JSON.stringify(outside(host))}]\nhttp = true\n`;
    const network = ["--net=slirp4netns", "--copy-up=/etc", "--disable-host-loopback=false"];
    await using on = await startRootlessWorker({ network, config });
    assert.equal(await labelOf(on.client, "network"), "cni");
    const host = outside(on.registry.host);
    const { root } = run({
      root: image({ ...on.reference, domain: host }),
      args: ["sh", "-c", `busybox ip -4 -o address show dev eth0; busybox wget -qO- http://${host}/v2/`],
      env: ["PATH=/bin"],
    });
    const [address, answer] = (await outputOf(on.client.solve(definitionOf(root)))).split("\n");
    assert.match(address ?? "", / 10\.10\.\d+\.\d+\/16 /);
    assert.equal(answer, "{}");
  });

  test("gives steps devices of the host, as far as the user may use them", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "cdi-"));
    await chmod(directory.path, 0o755);
    const containerEdits = {
      env: ["NAME=full"],
      deviceNodes: [{ path: "/dev/mine", hostPath: "/dev/full", permissions: "rw" }],
    };
    const devices = [{ name: "full", containerEdits }];
    await writeFile(
      join(directory.path, "test.json"),
      JSON.stringify({ cdiVersion: "0.5.0", kind: "vendor.com/test", devices }),
    );
    await using on = await startRootlessWorker({ args: () => ["--cdi-spec-dir", directory.path] });
    const tree = step(on, "echo $NAME; stat -c '%F %t:%T' /dev/mine; { echo x >/dev/mine; } 2>&1; true", {
      devices: [{ name: "vendor.com/test=full" }],
    });
    const output = await outputOf(on.client.solve(definitionOf(tree), { entitlements: ["device"] }));
    assert.match(output, /^full\ncharacter special file 1:7\n.*No space left on device\n$/);
  });

  test("says which ids it has no room for", async () => {
    await using on = await startRootlessWorker();
    const layer = await layerOf([
      { type: "file", name: "far", uid: 100_000, gid: 0, content: Buffer.from("x") },
    ]);
    const reference = await pushTo(on.registry, assembleImage([layer]));
    await assert.rejects(on.client.solve(definitionOf(image(reference))).result, (error) => {
      assert(error instanceof BuildError);
      assert.match(error.message, /entry "far".*100000:0.*\/etc\/subuid and \/etc\/subgid/);
      return true;
    });
  });
});

describe("a worker that is not root", () => {
  test("says how it could be", async () => {
    await using user = await makeUser();
    const [first, ...rest] = user.as([join(user.repository, "services/worker/bin/oci-worker")]);
    assert.match(await failureOf(first, rest), mappedRoot);
  });
});

describe("a worker of root", () => {
  test("is not rootless", async () => {
    assert.match(await failureOf(program, ["--oci-worker-rootless"]), mappedRoot);
    assert.match(await failureOf(program, ["--oci-worker-rootless=false"]), mappedRoot);
    assert.match(await failureOf(program, ["--rootless"]), mappedRoot);
  });

  test("has a sandbox for processes", async () => {
    assert.match(
      await failureOf(program, ["--oci-worker-no-process-sandbox"]),
      /can't enable NoProcessSandbox without Rootless/,
    );
  });
});
