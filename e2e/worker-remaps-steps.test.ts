import "./peers/enter-own-namespaces.ts";
import assert from "node:assert/strict";
import { execFile as execFileWithCallback } from "node:child_process";
import { chmod, mkdir, mkdtempDisposable, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import type { BuildKitClient } from "@oci-worker/client";
import type { BuildOptions } from "@oci-worker/client/build";
import { definitionOf, image, type RunOptions, run, type Tree } from "@oci-worker/llb/build";
import { startContainerd } from "./peers/containerd.ts";
import { makeGate } from "./peers/gate.ts";
import { assembleImage, createImage, layerOf, programs } from "./peers/image.ts";
import { lazyLayerOf } from "./peers/lazy-images.ts";
import { linkedProgram } from "./peers/linked-program.ts";
import { startOutsideServer } from "./peers/outside-server.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startAgent } from "./peers/ssh-agent.ts";
import { makeUser } from "./peers/unprivileged-user.ts";
import { startWorker, type WorkerOptions } from "./peers/worker.ts";

const execute = promisify(execFileWithCallback);

const program = join(import.meta.dirname, "../services/worker/bin/oci-worker");
const crun = join(import.meta.dirname, "../services/worker/src/executor/sample-crun.sh");

/** One that starts is a failure, and would run on. */
const runningTimeoutMs = 60_000;

/** What buildkitd.toml says. */
const toUser = (user: string) => `[worker.oci]\nuserRemapUnsupported = "${user}"\n`;

/** A user with subordinate ids, an image in a registry, and a directory that steps' root may pass through. */
async function fixture() {
  await using undo = new AsyncDisposableStack();
  const user = undo.use(await makeUser());
  const registry = undo.use(await startRegistry());
  // With mount points of its own, so that none is removed again, and with it the time that a step gives /etc.
  const mountPoints = { "/etc/hosts": "", "/etc/resolv.conf": "" };
  const files = { ...mountPoints, "/etc/kept": "kept\n", "/data/removed": "x\n" };
  const reference = await pushTo(registry, await createImage({ files }));
  const { path } = undo.use(await mkdtempDisposable(join(tmpdir(), "remap-")));
  await chmod(path, 0o711);
  const owned = undo.move();
  return {
    registry,
    reference,
    first: user.firstSubordinate,
    path,
    /** Starts a worker whose state is in the directory `name`. */
    worker: async (name: string, options: WorkerOptions = {}, config = toUser("unprivileged")) => {
      const directory = join(path, name);
      await mkdir(directory, { recursive: true });
      return await startWorker({ ...options, directory, config });
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function step(root: Tree, script: string, more: Partial<RunOptions> = {}): Tree {
  return run({ root, args: ["sh", "-ec", script], env: ["PATH=/bin"], ...more }).root;
}

/** Builds `tree`, and gives what its steps print and which of them were found in the cache. */
async function build(client: BuildKitClient, tree: Tree, options: BuildOptions = {}) {
  const solving = client.solve(definitionOf(tree), options);
  let output = "";
  const cached = new Set<string>();
  for await (const { logs, vertices } of solving.status) {
    output += logs.map(({ data }) => Buffer.from(data).toString()).join("");
    for (const vertex of vertices) {
      if (vertex.cached) {
        cached.add(vertex.name);
      }
    }
  }
  await solving.result;
  return { output, cached: [...cached] };
}

/** The layers that a build of `tree` exports, by their digests. */
async function layersOf(client: BuildKitClient, tree: Tree, file: string): Promise<string[]> {
  const output: BuildOptions["output"] = {
    type: "file",
    exporter: "docker",
    attributes: {},
    write: async (pieces) => await writeFile(file, pieces),
  };
  await build(client, tree, { output });
  const { stdout: manifest } = await execute("tar", ["-xOf", file, "manifest.json"]);
  const [{ Config: config }] = JSON.parse(manifest);
  const { stdout } = await execute("tar", ["-xOf", file, config]);
  return JSON.parse(stdout).rootfs.diff_ids;
}

/** Whom processes of the host run as that are user `uid`, with the first line of how their ids are mapped. */
async function processesOf(uid: number): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
      const [, own] = /^Uid:\t(\d+)/m.exec(status) ?? [];
      return own === String(uid) ? [await readFile(`/proc/${pid}/uid_map`, "utf8").catch(() => "")] : [];
    }),
  );
  return found.flat();
}

describe("the users of remapped steps", () => {
  for (const runtime of ["runc", crun]) {
    test(`are others on the host, and root in their own eyes (${basename(runtime)})`, async () => {
      await using on = await fixture();
      await using gate = await makeGate();
      await using worker = await on.worker("state", { args: ["--oci-worker-binary", runtime] });
      const script = `id -u; cat /proc/self/uid_map; stat -c '%u:%g' / /etc/hosts /etc/kept; ${gate.command}`;
      const solving = worker.client.solve(definitionOf(step(image(on.reference), script)));
      let output = "";
      let seen: string[] = [];
      for await (const { logs } of solving.status) {
        output += logs.map(({ data }) => Buffer.from(data).toString()).join("");
        if (output.split("\n").length > 5 && seen.length === 0) {
          seen = await processesOf(on.first);
          gate.open();
        }
      }
      await solving.result;
      const map = ["0", String(on.first), "65536"];
      const [uid, inside = "", ...owners] = output.trimEnd().split("\n");
      assert.deepEqual([uid, inside.trim().split(/\s+/)], ["0", map]);
      assert.deepEqual(owners, ["0:0", "0:0", "0:0"]);
      assert.deepEqual(seen[0]?.trim().split(/\s+/), map);
      // Steps' root may pass through the directory of all this, and read none of it.
      for (const name of ["cache.db", "cache.db-wal", "history.db", "history.db-wal"]) {
        assert.equal((await stat(join(worker.root, name))).mode & 0o777, 0o600, name);
      }
      assert.equal((await stat(worker.root)).mode & 0o777, 0o710);
    });
  }

  test("leave on the disk, in layers and in the cache what users of a plain step do", async () => {
    await using on = await fixture();
    const script = [
      "busybox mkdir -p /made/inner; echo x >/made/file; busybox chown 1000:1001 /made/file /made/inner",
      "busybox chmod 4755 /made/file; busybox ln /made/file /made/linked; busybox mkfifo /made/pipe",
      "rm -r /data; echo y >>/etc/kept; busybox chown 7 /etc/kept; busybox ln -s kept /etc/link",
      // All that is new, or has new entries, at one time: layers are the same only then.
      "busybox touch -h -d @1000000000 /made/* /made /etc/kept /etc/link /etc /",
    ].join("; ");
    const made = step(image(on.reference), script);
    const look = step(
      made,
      "stat -c '%u:%g %a' /made /made/file /made/inner /etc/kept; ls / | busybox tr '\\n' ' '",
    );
    const seen = async (name: string, config: string) => {
      await using worker = await on.worker(name, {}, config);
      const layers = await layersOf(worker.client, made, join(on.path, "image.tar"));
      return { layers, ...(await build(worker.client, look)) };
    };
    const remapped = await seen("a", toUser("unprivileged"));
    assert.match(remapped.output, /^0:0 755\n1000:1001 4755\n1000:1001 755\n7:0 644\n/);
    const plain = await seen("b", "");
    assert.deepEqual(plain, remapped);
    // What one has made the other takes from the cache, and goes on with.
    for (const [name, config] of [
      ["a", ""],
      ["b", toUser("unprivileged")],
    ] as const) {
      await using worker = await on.worker(name, {}, config);
      const { cached, output } = await build(worker.client, step(look, "stat -c %u /made/file; touch /more"));
      assert.equal(cached.filter((vertex) => vertex.includes("sh -ec")).length, 2, cached.join());
      assert.equal(output, "1000\n");
    }
  });

  test("have secrets, the client's agent and caches as their own, whatever those begin with", async () => {
    await using on = await fixture();
    await using agent = await startAgent();
    const members = await linkedProgram("/usr/bin/ssh-add", "openssh-client");
    const passwd = {
      type: "file",
      name: "etc/passwd",
      content: Buffer.from("app:x:1000:1000::/:/bin/sh\n"),
    } as const;
    const withAgent = assembleImage([await layerOf(await programs()), await layerOf([...members, passwd])]);
    const reference = await pushTo(on.registry, withAgent, "test/ssh");
    await using worker = await on.worker("state");
    const from = step(image(reference), "busybox mkdir /start; busybox chown 1000 /start");
    const mounts: RunOptions["mounts"] = [
      { type: "secret", id: "key", dest: "/key", uid: 1000, gid: 1000, mode: 0o400 },
      { type: "ssh", id: "default", dest: "/agent.sock", uid: 1000 },
      { type: "cache", dest: "/cache", id: "empty", sharing: "shared" },
      { type: "cache", dest: "/begun", id: "begun", sharing: "locked", from },
    ];
    const env = ["PATH=/bin:/usr/bin", "SSH_AUTH_SOCK=/agent.sock"];
    const asUser =
      "cat /key; ssh-add -l; echo mine >/begun/start/file; stat -c '%u %a' /key /begun/start/file";
    const options = {
      sshAgents: { default: agent.path },
      secrets: () => Promise.resolve(Buffer.from("secret\n")),
    };
    const first = await build(
      worker.client,
      step(image(reference), asUser, { env, mounts, user: "app" }),
      options,
    );
    assert.equal(first.output, `secret\n${agent.listing}1000 400\n1000 644\n`);
    const asRoot = "touch /cache/x /begun/y; stat -c %u /cache/x /begun/y /begun/start/file";
    const second = await build(worker.client, step(image(reference), asRoot, { env, mounts }), options);
    assert.equal(second.output, "0\n0\n1000\n");
  });

  for (const backend of ["native", "fuse-overlayfs", "stargz"]) {
    test(`may be had with the snapshotter ${backend}`, async () => {
      await using on = await fixture();
      await using worker = await on.worker("state", { args: ["--oci-worker-snapshotter", backend] });
      const made = step(image(on.reference), "touch /made; busybox chown 1000 /made; rm /data/removed");
      const look = step(made, "stat -c '%u:%g' /made /etc/kept; ls /data; echo z >>/etc/kept");
      assert.equal((await build(worker.client, look)).output, "1000:0\n0:0\n");
    });
  }

  for (const mode of ["erofs", "fuse"]) {
    test(`see lazy layers as theirs (${mode})`, async () => {
      await using on = await fixture();
      const big = { type: "file", name: "big", uid: 1000, content: Buffer.alloc(300_000, "lazy ") } as const;
      const lazy = assembleImage([await lazyLayerOf(await programs()), await lazyLayerOf([big])]);
      const reference = await pushTo(on.registry, lazy, "test/lazy");
      const config = `${toUser("unprivileged")}[worker.oci.stargzSnapshotter]\nlazyMode = "${mode}"\n`;
      await using worker = await on.worker("state", { args: ["--oci-worker-snapshotter", "stargz"] }, config);
      const script = "stat -c %u /big /bin; echo x >>/big; busybox wc -c </big";
      const building = build(worker.client, step(image(reference), script));
      assert.equal((await building).output, "1000\n0\n300002\n");
      assert(
        worker.process.log.some((line) => line.includes('"remote-snapshot-prepared":"true"')),
        "they are lazy",
      );
    });
  }

  test("may be had with the snapshotter of somebody else", async () => {
    await using on = await fixture();
    await using containerd = await startContainerd();
    const args = ["--oci-worker-proxy-snapshotter-path", containerd.address];
    await using worker = await on.worker("state", {
      args: [...args, "--oci-worker-snapshotter", "overlayfs"],
      snapshotterAddress: containerd.address,
      snapshotterName: "overlayfs",
    });
    const made = step(image(on.reference), "touch /made; rm /data/removed");
    assert.equal((await build(worker.client, step(made, "stat -c '%u:%g' /made; ls /data"))).output, "0:0\n");
  });

  test("have rights over a network of their own, and none over the host's", async () => {
    await using on = await fixture();
    await using server = await startOutsideServer();
    const args = [
      ...["--oci-worker-net", "bridge", "--allow-insecure-entitlement=network.host"],
      "--allow-insecure-entitlement=security.insecure",
    ];
    await using worker = await on.worker("state", { args });
    const entitlements = ["network.host", "security.insecure"] as const;
    const output = async (script: string, more: Partial<RunOptions>) =>
      (await build(worker.client, step(image(on.reference), script, more), { entitlements })).output;
    const reach = `busybox wget -qO- ${server.url}/who; busybox httpd -p 80 -h /etc; busybox wget -qO- http://127.0.0.1/kept; ls /sys/class/net`;
    assert.equal(await output(reach, {}), `${server.ourAddress}\nkept\neth0\nlo\n`);
    const change = "busybox ip link set lo down && echo changed || echo refused";
    assert.equal(await output(change, { security: "insecure" }), "changed\n");
    const onHost = await output(change, { security: "insecure", network: "host" });
    assert.match(onHost, /refused\n$/);
  });

  test("reach networks by a proxy that they trust, and leave nothing of that", async () => {
    await using on = await fixture();
    await using outside = await startOutsideServer();
    await using worker = await on.worker("proxied", {});
    const bundle = "/etc/ssl/certs/ca-certificates.crt";
    const files = { [bundle]: "nobody\n", "/etc/hosts": "", "/etc/resolv.conf": "" };
    const base = image(await pushTo(on.registry, await createImage({ files }), "test/trusting"));
    const count = `busybox grep -c 'proxy CA begin' ${bundle} || true; busybox stat -c %u ${bundle}`;
    const asking = step(base, `busybox wget -qO- ${outside.url}/who; ${count}`);
    const { output } = await build(worker.client, step(asking, count, { network: "none" }), {
      proxyNetwork: true,
    });
    assert.equal(
      output,
      `${outside.ourAddress}\n1\n0\nproxy network requests:\n- GET ${outside.url}/who -> 200\n0\n0\n`,
    );
  });

  test("leave nothing when the worker is killed", async () => {
    await using on = await fixture();
    {
      const worker = await on.worker("state");
      const solving = worker.client.solve(
        definitionOf(step(image(on.reference), "echo started; sleep 3000")),
      );
      solving.result.catch(() => undefined);
      for await (const { logs } of solving.status) {
        if (logs.length > 0) {
          break;
        }
      }
      await worker.process.kill();
    }
    assert.notDeepEqual(await processesOf(on.first), []);
    await using worker = await on.worker("state");
    assert.deepEqual(await processesOf(on.first), []);
    await worker.assertClean();
  });
});

/** How a worker refuses to start, in one line, with nothing made. */
async function refusal(
  directory: string,
  config: string,
  { enter = [], args = [] }: { readonly enter?: readonly string[]; readonly args?: readonly string[] } = {},
): Promise<string> {
  const before = await readdir(directory);
  await using files = await mkdtempDisposable(join(tmpdir(), "config-"));
  const file = join(files.path, "buildkitd.toml");
  await writeFile(file, config);
  const [root, addr] = [join(directory, "new/root"), join(files.path, "worker.sock")];
  const command = [...enter, program, "--config", file, "--root", root, "--addr", `unix://${addr}`, ...args];
  const [first = "", ...rest] = command;
  const error = await execute(first, rest, { timeout: runningTimeoutMs, killSignal: "SIGKILL" }).then(
    () => assert.fail("it has started and ended well"),
    (thrown: { readonly code: number; readonly stderr: string }) => thrown,
  );
  assert.equal(error.code, 1, error.stderr);
  assert.match(error.stderr, /^oci-worker: [^\n]+\n$/, "one line says what is wrong");
  assert.deepEqual(await readdir(directory), before, "nothing is made");
  assert.deepEqual(await readdir(files.path), ["buildkitd.toml"], "nothing is made");
  return error.stderr;
}

describe("a worker does not remap steps", () => {
  test("to users whose ids it does not find, or cannot use", async () => {
    await using on = await fixture();
    const withIDs = async (subuid: string, subgid: string) => {
      await writeFile("/etc/subuid", subuid);
      await writeFile("/etc/subgid", subgid);
      return await refusal(on.path, toUser("unprivileged"));
    };
    const good = "unprivileged:100000:65536\n";
    assert.match(
      await withIDs("other:100000:65536\n", good),
      /user unprivileged: \/etc\/subuid has no ids for them, want a line such as unprivileged:100000:65536/,
    );
    assert.match(await withIDs(good, ""), /\/etc\/subgid has no ids for them/);
    assert.match(
      await withIDs(`# ours\n${good}unprivileged:many\n`, good),
      /line 3 of \/etc\/subuid is "unprivileged:many", want NAME:FIRST:COUNT/,
    );
    assert.match(await withIDs("unprivileged:0:65536\n", good), /gives them the host's root, want other ids/);
    assert.match(await withIDs(`${good}${good}`, good), /two ranges overlap/);
    assert.match(await withIDs("unprivileged:4294967000:65536\n", good), /goes beyond id 4294967294/);
    assert.match(
      await refusal(on.path, toUser("unprivileged:nobody-of-that-name")),
      /there is no group "nobody-of-that-name" on this machine, want one that `getent group` knows/,
    );
  });

  test("whose root may not come to what they are to see", async () => {
    await using on = await fixture();
    await chmod(on.path, 0o700);
    assert.match(
      await refusal(on.path, toUser("unprivileged")),
      new RegExp(`may not pass through ${on.path} to ${on.path}/new/root, want chmod o\\+x ${on.path}`),
    );
  });

  test("if it is in a user namespace itself", async () => {
    await using on = await fixture();
    const enter = ["unshare", "--user", "--map-root-user", "--mount"];
    assert.match(
      await refusal(on.path, toUser("root"), { enter }),
      /the worker is rootless, in a user namespace itself, want worker\.oci\.userRemapUnsupported left out/,
    );
  });

  test("on a file system that cannot map ids", async () => {
    await using on = await fixture();
    assert.match(
      await refusal(on.path, toUser("unprivileged"), { args: ["--root", "/proc/nowhere"] }),
      /the ids of \/proc cannot be mapped: .*, want Linux 5\.19 and a file system such as/,
    );
  });
});

test("a worker tells by --print-config to whom it remaps steps, and from where it knows", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "config-"));
  const file = join(directory.path, "buildkitd.toml");
  await writeFile(file, toUser("somebody:group"));
  const { stdout } = await execute(program, ["--config", file, "--print-config"]);
  assert.match(
    stdout,
    /^userRemapUnsupported = "somebody:group" +# worker\.oci\.userRemapUnsupported of the file$/m,
  );
});
