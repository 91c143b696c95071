import "./peers/enter-own-namespaces.ts";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable, open, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import type { BuildKitClient } from "@oci-worker/client";
import { tryLockExclusively } from "@oci-worker/libc/file";
import { definitionOf, image, type RunOptions, run } from "@oci-worker/llb/build";
import { unmount } from "@oci-worker/mounts/mount";
import type { Reference } from "@oci-worker/oci/reference";
import { createImage } from "./peers/image.ts";
import { startOutsideServer } from "./peers/outside-server.ts";
import { childrenOf, untilGone } from "./peers/process.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerOptions } from "./peers/worker.ts";

/** A small image in a registry. */
async function fixture() {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const reference = await pushTo(registry, await createImage());
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "networks-")));
  const owned = undo.move();
  return { reference, path: directory.path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** What a step prints on standard output. */
async function output(
  client: BuildKitClient,
  reference: Reference,
  script: string,
  options: Partial<RunOptions> = {},
  onOutput: () => void = () => undefined,
) {
  const { root } = run({
    root: image(reference),
    args: ["sh", "-c", script],
    env: ["PATH=/bin"],
    ignoreCache: true,
    ...options,
  });
  const entitlements = options.network === "host" ? ["network.host" as const] : [];
  const build = client.solve(definitionOf(root), { entitlements });
  let text = "";
  for await (const { logs } of build.status) {
    for (const { data, stream } of logs) {
      text += stream === "stdout" ? Buffer.from(data).toString() : "";
      onOutput();
    }
  }
  await build.result;
  return text.trim();
}

async function failure(options: WorkerOptions): Promise<string> {
  try {
    await using _worker = await startWorker(options);
  } catch (error) {
    assert(error instanceof Error);
    return error.message;
  }
  assert.fail("the worker has started");
}

async function networkLabel(client: BuildKitClient): Promise<string | undefined> {
  const [worker] = await client.workers();
  return worker?.labels["org.mobyproject.buildkit.worker.network"];
}

async function devices(enter: readonly string[] = []): Promise<string[]> {
  const [program = "", ...args] = [...enter, "ip", "-oneline", "link", "show"];
  const { stdout } = await promisify(execFile)(program, args);
  return [...stdout.matchAll(/^\d+: ([^:@]+)/gm)].map(([, name = ""]) => name);
}

/** Addresses that the plugin host-local has given away in network `name`. */
async function leases(name: string): Promise<string[]> {
  const files = await readdir(`/var/lib/cni/networks/${name}`);
  return files.filter((file) => /^\d/.test(file));
}

/** What `rootlesskit --detach-netns` makes: a network beside the worker's own. */
async function detachedNetwork() {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await mkdtempDisposable(join(tmpdir(), "rootlesskit-")));
  const netns = join(path, "netns");
  await writeFile(netns, "");
  await promisify(execFile)("unshare", [`--net=${netns}`, "true"]);
  undo.defer(() => unmount(netns));
  const owned = undo.move();
  return {
    path,
    devices: () => devices(["nsenter", `--net=${netns}`]),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const bridge = ["--oci-worker-net", "bridge"];
const address = "busybox ip -4 -o address show dev eth0 | busybox awk '{ print $4 }'";

/** A list of Debian's plugins, on a bridge of another name. */
const conflist = {
  cniVersion: "1.0.0",
  name: "mine",
  plugins: [
    {
      type: "bridge",
      bridge: "mine0",
      isGateway: true,
      ipMasq: true,
      ipam: { type: "host-local", ranges: [[{ subnet: "10.77.0.0/24" }]], routes: [{ dst: "0.0.0.0/0" }] },
    },
    { type: "firewall" },
  ],
};

describe("the network bridge", () => {
  test("lets a step reach out with the host's address, and gives it one of its own", async () => {
    await using on = await fixture();
    await using server = await startOutsideServer();
    await using worker = await startWorker({ args: bridge });
    const script = `${address}; busybox wget -qO- ${server.url}/who; cat /etc/resolv.conf`;
    const [own, seen, ...resolv] = (await output(worker.client, on.reference, script)).split("\n");
    assert.match(own ?? "", /^10\.10\.\d+\.\d+\/16$/);
    assert.equal(seen, server.ourAddress);
    assert.doesNotMatch(resolv.join("\n"), /127\.0\.0\.|::1$/m);
    assert.equal(await networkLabel(worker.client), "cni");
  });

  test("keeps steps that run at the same time apart", async () => {
    await using on = await fixture();
    await using server = await startOutsideServer();
    await using worker = await startWorker({ args: bridge });
    // Both listen on the same address before either asks who answers there.
    const script = (name: string) =>
      `echo ${name} > /tmp/name; busybox httpd -p 127.0.0.1:7000 -h /tmp; busybox wget -qO- ${server.url}/meet
       busybox wget -qO- http://127.0.0.1:7000/name; ${address}`;
    const [one = "", two = ""] = await Promise.all(
      ["one", "two"].map((name) => output(worker.client, on.reference, script(name))),
    );
    const [, nameOne, addressOne] = one.split("\n");
    const [, nameTwo, addressTwo] = two.split("\n");
    assert.deepEqual([nameOne, nameTwo], ["one", "two"]);
    assert.notEqual(addressOne, addressTwo);
  });

  test("is not there for steps that ask for none, nor for those on the host's", async () => {
    await using on = await fixture();
    await using worker = await startWorker({
      args: [...bridge, "--allow-insecure-entitlement=network.host"],
    });
    const script = "busybox ip -o link show | busybox awk '{ print $2, $3 }'";
    const none = await output(worker.client, on.reference, script, { network: "none" });
    assert.match(none, /^lo: <LOOPBACK,UP[^\n]*>$/);
    const host = await output(worker.client, on.reference, script, { network: "host" });
    assert.match(host, /^buildkit0: /m);
  });

  test("is removed with the worker that made it, and stays if it was there before", async () => {
    await using on = await fixture();
    for (const round of ["made", "found"]) {
      const file = join(on.path, `${round}.toml`);
      await writeFile(
        file,
        '[worker.oci]\nnetworkMode = "bridge"\nbridgeName = "lab0"\nbridgeSubnet = "10.88.0.0/24"\n',
      );
      if (round === "found") {
        await promisify(execFile)("ip", ["link", "add", "lab0", "type", "bridge"]);
      }
      {
        await using worker = await startWorker({ args: ["--config", file] });
        assert.match(await output(worker.client, on.reference, address), /^10\.88\.0\.\d+\/24$/);
        assert((await devices()).includes("lab0"));
      }
      assert.equal((await devices()).includes("lab0"), round === "found");
    }
    await promisify(execFile)("ip", ["link", "delete", "lab0"]);
  });

  test("is what auto means if the environment says so", async () => {
    await using _worker = await startWorker({ environment: { BUILDKIT_NETWORK_BRIDGE_AUTO: "1" } });
    assert((await devices()).includes("buildkit0"));
  });

  test("is made in the network that RootlessKit has detached, if it has", async () => {
    await using on = await fixture();
    await using state = await detachedNetwork();
    const environment = { ROOTLESSKIT_STATE_DIR: state.path };
    {
      await using worker = await startWorker({ args: bridge, environment });
      const script = `${address}; busybox ping -c 1 -q 10.10.0.1`;
      assert.match(
        await output(worker.client, on.reference, script),
        /^10\.10\.\d+\.\d+\/16\n.* 1 packets received/s,
      );
      assert((await state.devices()).includes("buildkit0"));
      assert(!(await devices()).includes("buildkit0"), "it is in the worker's own network");
    }
    assert(!(await state.devices()).includes("buildkit0"), "it is left in the detached network");
  });

  test("is the worker's own where RootlessKit has detached none, and must be one where it has", async () => {
    await using on = await fixture();
    const environment = { ROOTLESSKIT_STATE_DIR: on.path };
    {
      await using _worker = await startWorker({ args: bridge, environment });
      assert((await devices()).includes("buildkit0"));
    }
    await writeFile(join(on.path, "netns"), "");
    assert.match(await failure({ args: bridge, environment }), /its netns is no name space, want it as/);
    const nowhere = { ROOTLESSKIT_STATE_DIR: join(on.path, "absent") };
    assert.match(await failure({ args: bridge, environment: nowhere }), /absent: there is no such directory/);
    await using _worker = await startWorker({ environment: nowhere });
  });

  test("cannot be without its plugin", async () => {
    await using on = await fixture();
    const message = await failure({ args: [...bridge, "--oci-cni-binary-dir", on.path] });
    assert.match(message, /failed to find CNI bridge ".*\/bridge" or buildkit-cni-bridge/);
  });
});

describe("a network of the operator's configuration", () => {
  test("is used by the flag --oci-cni-config-path, which upstream reads under a name that it does not have", async () => {
    await using on = await fixture();
    const file = join(on.path, "mine.conflist");
    await writeFile(file, JSON.stringify(conflist));
    await using server = await startOutsideServer();
    await using worker = await startWorker({
      args: ["--oci-worker-net", "cni", "--oci-cni-config-path", file],
    });
    const seen = await output(worker.client, on.reference, `${address}; busybox wget -qO- ${server.url}/who`);
    assert.match(seen, new RegExp(`^10\\.77\\.0\\.\\d+/24\n${server.ourAddress.replaceAll(".", "\\.")}$`));
  });

  test("is what auto means if its file is there, and must work then", async () => {
    await using on = await fixture();
    const file = join(on.path, "cni.json");
    const [plugin] = conflist.plugins;
    await writeFile(file, JSON.stringify({ cniVersion: "0.4.0", name: "mine", ...plugin }));
    const config = join(on.path, "buildkitd.toml");
    await writeFile(config, `[worker.oci]\ncniConfigPath = ${JSON.stringify(file)}\n`);
    {
      await using worker = await startWorker({ args: ["--config", config] });
      assert.match(await output(worker.client, on.reference, address), /^10\.77\.0\./);
    }
    const broken = ["--config", config, "--oci-cni-binary-dir", join(on.path, "absent")];
    assert.match(await failure({ args: broken }), /failed to read cni binary dir ".*\/absent"/);
    await writeFile(file, JSON.stringify({ cniVersion: "0.4.0", name: "mine", type: "absent" }));
    assert.match(await failure({ args: ["--config", config] }), /failed to find plugin "absent" in path/);
    await writeFile(
      file,
      JSON.stringify({ cniVersion: "0.4.0", name: "mine", ...plugin, ipam: { type: "host-local" } }),
    );
    assert.match(
      await failure({ args: ["--config", config] }),
      /CNI setup error: plugin type=\\"bridge\\" failed \(add\): no IP ranges specified/,
    );
  });

  test("is missed where it is asked for, and not where it is not", async () => {
    const args = ["--oci-cni-config-path", "/nowhere/cni.json"];
    assert.match(
      await failure({ args: [...args, "--oci-worker-net", "cni"] }),
      /failed to read cni config "\/nowhere\/cni\.json"/,
    );
    await using worker = await startWorker({ args });
    await worker.process.said(/using host network as the default/);
    assert.equal(await networkLabel(worker.client), "host");
  });

  test("is tried out by one worker of the host at a time", async () => {
    await using on = await fixture();
    const path = join(on.path, "lock");
    const held = await open(path, "a");
    assert(tryLockExclusively(held.fd));
    const starting = startWorker({ args: bridge, environment: { BUILDKIT_CNI_INIT_LOCK_PATH: path } });
    const unfinished = Symbol("unfinished");
    assert.equal(await Promise.race([starting, attempt(bridge)]), unfinished);
    await held.close();
    {
      await using _worker = await starting;
    }
    assert(!(await devices()).includes("buildkit0"), "it did not know that the bridge was its own");

    /** Another worker, without the lock, has come up and gone meanwhile. */
    async function attempt(args: readonly string[]) {
      await using _other = await startWorker({ args });
      return unfinished;
    }
  });
});

describe("networks made ahead of need", () => {
  const pool = [...bridge, "--oci-cni-pool-size", "2"];

  test("are there before a step asks, and gone with the worker", async () => {
    await using on = await fixture();
    {
      await using worker = await startWorker({ args: pool });
      const pinned = () => readdir(join(worker.root, "net/cni"));
      await worker.process.said(/"msg":"networks made ahead of need"/);
      const [first, second] = await pinned();
      assert(first !== undefined && second !== undefined);
      // One step after the other: none of them has a network made for it.
      await output(worker.client, on.reference, "true");
      await output(worker.client, on.reference, "true");
      assert.deepEqual((await pinned()).sort(), [first, second].sort());
      assert.equal((await leases("buildkit")).length, 2);
    }
    assert.deepEqual(await leases("buildkit"), []);
    assert.deepEqual(
      (await devices()).filter((device) => device.startsWith("veth")),
      [],
    );
  });

  test("are removed by the next worker, whatever its network, if this one is killed", async () => {
    await using on = await fixture();
    await using state = await mkdtempDisposable(join(tmpdir(), "worker-"));
    {
      const worker = await startWorker({ args: pool, directory: state.path });
      await worker.process.said(/"msg":"networks made ahead of need"/);
      const children = await childrenOf(worker.process.pid);
      let killed: Promise<void> | undefined;
      const running = output(
        worker.client,
        on.reference,
        "echo started; sleep 3000",
        { hostname: "box" },
        () => {
          killed ??= worker.process.kill();
        },
      );
      await assert.rejects(running);
      await killed;
      // They drain, and hold what is theirs until they have.
      await Promise.all(children.map(untilGone));
      assert.equal((await leases("buildkit")).length, 3);
    }
    await using worker = await startWorker({ directory: state.path, args: ["--oci-worker-net", "host"] });
    assert.deepEqual(await leases("buildkit"), []);
    assert.deepEqual(await readdir(join(worker.root, "net/cni")), []);
    assert.deepEqual(await readdir(join(worker.root, "net/attachments")), []);
    assert.deepEqual(
      (await devices()).filter((device) => /^(veth|buildkit)/.test(device)),
      [],
    );
    const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
    assert.deepEqual(
      mounts.filter((line) => line.includes(join(worker.root, "net/cni"))),
      [],
    );
  });
});
