import assert from "node:assert/strict";
import { chmod, mkdir, mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  DeadlineExceededError,
  FailedPreconditionError,
  InvalidArgumentError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { pino } from "pino";
import type { StepNetwork } from "../network.ts";
import { parseNetworkConfig } from "./config.ts";
import { CniNamespaces } from "./namespaces.ts";
import { CniPlugins } from "./plugin.ts";
import { CniProvider, type CniProviderOptions } from "./provider.ts";

const patient = new AbortController().signal;
const plain = { hostname: "", insecure: false };
const versions = '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}';
const result = '{"cniVersion":"1.0.0","ips":[{"address":"10.9.8.7/24"}]}';

/** One call of a plugin, as it has seen it. */
interface Call {
  readonly type: string;
  readonly command: string;
  readonly containerID: string;
  readonly ifname: string;
  readonly args: string;
  /** What the name space file was: "nsfs" if a name space was mounted there. */
  readonly netns: string;
  readonly config: Readonly<Record<string, unknown>>;
}

/** Directories for a provider, and plugins in it that are shell scripts and note how they were called. */
async function fixture() {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await mkdtempDisposable(join(tmpdir(), "cni-")));
  const binaries = join(path, "bin");
  await mkdir(binaries);
  const directory = join(path, "net");
  const callsFile = join(path, "calls");
  await writeFile(callsFile, "");
  undo.defer(async () =>
    assert.deepEqual(await mountPointsBeneath(path), [], "a name space was left behind"),
  );
  const log: { readonly msg: string; readonly reason?: string }[] = [];
  const logger = pino({ level: "debug" }, { write: (line) => void log.push(JSON.parse(line)) });

  /** @param script of what is not VERSION; what it prints is the answer. */
  const plugin = async (type: string, script = `echo '${result}'`, supported = versions) => {
    const file = join(binaries, type);
    const note = `echo "${type}|$CNI_COMMAND|$CNI_CONTAINERID|$CNI_IFNAME|$CNI_ARGS|$([ -z "$CNI_NETNS" ] || stat -f -c %T "$CNI_NETNS")|$config" >> ${callsFile}`;
    await writeFile(
      file,
      `#!/bin/sh\nconfig=$(cat)\n${note}\n[ $CNI_COMMAND = VERSION ] && { echo '${supported}'; exit; }\n${script}\n`,
    );
    await chmod(file, 0o755);
  };
  await plugin("loopback", 'echo \'{"cniVersion":"1.0.0"}\'');
  await plugin("first");
  await plugin("second");

  const calls = async (): Promise<Call[]> => {
    const lines = (await readFile(callsFile, "utf8")).split("\n").filter(Boolean);
    return lines
      .map((line) => {
        const [type = "", command = "", containerID = "", ifname = "", args = "", netns = "", ...config] =
          line.split("|");
        return { type, command, containerID, ifname, args, netns, config: JSON.parse(config.join("|")) };
      })
      .filter(({ command }) => command !== "VERSION");
  };
  const open = async (config: object, more: Partial<CniProviderOptions> & { timeoutMs?: number } = {}) => {
    const timeoutMs = more.timeoutMs ?? 60_000;
    const namespaces = await CniNamespaces.open({
      directory,
      pluginTimeoutMs: timeoutMs,
      capabilities: { dns: { servers: ["10.0.0.53"] } },
      log: logger,
    });
    return await CniProvider.open({
      config: parseNetworkConfig(JSON.stringify(config), "test.conf"),
      loopbackType: "loopback",
      plugins: new CniPlugins({ directories: [binaries], timeoutMs }),
      namespaces,
      poolSize: 0,
      idleMs: 1_000_000,
      log: logger,
      ...more,
    });
  };
  const owned = undo.move();
  return {
    path,
    directory,
    log,
    plugin,
    calls,
    open,
    forget: () => writeFile(callsFile, ""),
    /** What is on disk of name spaces. */
    left: async () => [
      ...(await readdir(join(directory, "cni"))),
      ...(await readdir(join(directory, "attachments"))),
    ],
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function list(...plugins: readonly object[]) {
  return { cniVersion: "1.0.0", name: "net", plugins };
}

function pathOf({ namespace }: StepNetwork): string {
  assert(typeof namespace === "object");
  return namespace.path;
}

describe("a CNI network", () => {
  test("proves itself by one name space: each plugin told what those before it made, undone in reverse", async () => {
    await using on = await fixture();
    await using _provider = await on.open(list({ type: "first", mtu: 9000 }, { type: "second" }));
    const calls = await on.calls();
    assert.deepEqual(
      calls.map(({ command, type, ifname, netns }) => `${command} ${type} ${ifname} ${netns}`),
      [
        "ADD loopback lo nsfs",
        "ADD first eth0 nsfs",
        "ADD second eth0 nsfs",
        "CHECK first eth0 nsfs",
        "CHECK second eth0 nsfs",
        "DEL second eth0 nsfs",
        "DEL first eth0 nsfs",
        "DEL loopback lo nsfs",
      ],
    );
    assert.equal(new Set(calls.map(({ containerID }) => containerID)).size, 1);
    assert.deepEqual(calls[1]?.config, { type: "first", mtu: 9000, name: "net", cniVersion: "1.0.0" });
    assert.deepEqual(calls[2]?.config["prevResult"], JSON.parse(result));
    assert.deepEqual(calls[5]?.config["prevResult"], JSON.parse(result));
    assert.deepEqual(await on.left(), []);
  });

  test("speaks the newest version that the configuration allows and all plugins know", async () => {
    await using on = await fixture();
    const old = '{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.9.8.7/24"}]}';
    await on.plugin("first", `echo '${old}'`, '{"supportedVersions":["0.2.0","0.3.1"]}');
    await on.plugin("second", `echo '${old}'`, '{"supportedVersions":["0.3.1","1.0.0"]}');
    const config = { ...list({ type: "first" }, { type: "second" }), cniVersions: ["0.2.0", "0.3.1"] };
    await using _provider = await on.open(config);
    const [, first, , ...after] = await on.calls();
    assert.equal(first?.config["cniVersion"], "0.3.1");
    // It has neither CHECK nor a result in DEL.
    assert.deepEqual(
      after.map(({ command }) => command),
      ["DEL", "DEL", "DEL"],
    );
    assert(!("prevResult" in (after[0]?.config ?? {})));
    await assert.rejects(on.open({ ...config, cniVersions: ["1.1.0"] }), (error) => {
      assert(error instanceof FailedPreconditionError);
      assert.match(
        error.message,
        /network "net": it wants version 1\.0\.0 or 1\.1\.0, first speaks 0\.2\.0, 0\.3\.1; /,
      );
      return true;
    });
  });

  test("takes the result of a plugin of before 0.3, and one that does not know VERSION", async () => {
    await using on = await fixture();
    const old = '{"cniVersion":"0.1.0","ip4":{"ip":"10.9.8.7/24"}}';
    const script = `[ $CNI_COMMAND = VERSION ] && { echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1; }`;
    const file = join(on.path, "bin/ancient");
    await writeFile(file, `#!/bin/sh\ncat > /dev/null\n${script}\necho '${old}'\n`, { mode: 0o755 });
    await using provider = await on.open({ name: "net", type: "ancient" });
    await using _network = await provider.open(plain, patient);
  });

  test("tells plugins only what they ask for", async () => {
    await using on = await fixture();
    const asks = { dns: true, portMappings: true, bandwidth: false };
    await using _provider = await on.open(list({ type: "first", capabilities: asks }, { type: "second" }));
    const [, first, second] = await on.calls();
    assert.deepEqual(first?.config["runtimeConfig"], { dns: { servers: ["10.0.0.53"] } });
    assert(!("capabilities" in (first?.config ?? {})));
    assert(!("runtimeConfig" in (second?.config ?? {})));
  });

  test("is used again after a step, by one at a time, and taken down in the end", async () => {
    await using on = await fixture();
    {
      await using provider = await on.open(list({ type: "first" }));
      const one = await provider.open(plain, patient);
      const two = await provider.open(plain, patient);
      assert.notEqual(pathOf(one), pathOf(two));
      await one[Symbol.asyncDispose]();
      await using again = await provider.open(plain, patient);
      assert.equal(pathOf(again), pathOf(one));
      await two[Symbol.asyncDispose]();
      assert.equal((await mountPointsBeneath(on.directory)).length, 2);
    }
    assert.deepEqual(await on.left(), []);
  });

  test("is not used again after a step that may have changed it", async () => {
    await using on = await fixture();
    await using provider = await on.open(list({ type: "first" }));
    const insecure = await provider.open({ ...plain, insecure: true }, patient);
    await insecure[Symbol.asyncDispose]();
    assert.deepEqual(await mountPointsBeneath(on.directory), []);
    await using next = await provider.open(plain, patient);
    assert.notEqual(pathOf(next), pathOf(insecure));
  });

  test("makes name spaces ahead of need", async () => {
    await using on = await fixture();
    await using provider = await on.open(list({ type: "first" }), { poolSize: 2 });
    // The pool is being filled; the steps get those, or, if they are quicker, ones of their own.
    await using _one = await provider.open(plain, patient);
    await provider[Symbol.asyncDispose]();
    const made = (await on.calls()).filter(({ command, type }) => command === "ADD" && type === "first");
    assert(made.length >= 3, "the proof and the pool");
  });

  test("makes a name known, and takes none that would say more", async () => {
    await using on = await fixture();
    await using provider = await on.open(list({ type: "first" }));
    await on.forget();
    {
      await using _network = await provider.open({ ...plain, hostname: "web.example" }, patient);
    }
    const calls = await on.calls();
    assert.equal(calls.length, 4, "it is not kept for others");
    assert(calls.every(({ args }) => args === "IgnoreUnknown=1;K8S_POD_NAME=web.example"));
    await assert.rejects(
      provider.open({ ...plain, hostname: "a;IP=10.0.0.1" }, patient),
      InvalidArgumentError,
    );
  });

  const failures = [
    {
      name: "that says what is wrong",
      script: `echo '{"cniVersion":"1.0.0","code":11,"msg":"try again later","details":"pool is empty"}'; exit 1`,
      message: 'CNI setup error: plugin type="second" failed (add): try again later; pool is empty (code 11)',
    },
    {
      name: "that crashes",
      script: "echo 'panic: oh' >&2; exit 2",
      message: 'CNI setup error: plugin type="second" failed (add): it ended with 2: panic: oh',
    },
    {
      name: "that answers what is no JSON",
      script: "echo ok",
      message: 'CNI setup error: plugin type="second" failed (add): its answer is no JSON: "ok\\n"',
    },
    {
      name: "that answers in another version",
      script: `echo '{"cniVersion":"0.3.1"}'`,
      message:
        'CNI setup error: plugin type="second" failed (add): it was spoken to in CNI 1.0.0 and answered in "0.3.1"',
    },
    {
      name: "that gives what is no address",
      script: `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1"}]}'`,
      message:
        'CNI setup error: plugin type="second" failed (add): it gave the address "10.0.0.1", want one such as "10.1.0.2/16"',
    },
    {
      name: "that gives no address",
      script: `echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}]}'`,
      message: 'CNI setup error: network "net" gave eth0 no address: nothing could be reached from it',
    },
    {
      name: "that floods us",
      script: "while :; do cat /bin/sh; done",
      message: 'CNI setup error: plugin type="second" failed (add): it wrote more than 1048576 bytes',
    },
  ] as const;
  for (const { name, script, message } of failures) {
    test(`is refused with a plugin ${name}, and undone`, async () => {
      await using on = await fixture();
      await on.plugin("second", `[ $CNI_COMMAND = ADD ] || exit 0\n${script}`);
      await assert.rejects(on.open(list({ type: "first" }, { type: "second" })), (error) => {
        assert(error instanceof UnavailableError);
        assert.equal(error.message, message);
        return true;
      });
      const undone = (await on.calls()).filter(({ command }) => command === "DEL");
      assert.deepEqual(
        undone.map(({ type }) => type),
        ["second", "first", "loopback"],
      );
      assert.deepEqual(await on.left(), []);
    });
  }

  test("is refused with a plugin that hangs, which is killed with what it has started", async () => {
    await using on = await fixture();
    const pidFile = join(on.path, "pid");
    await on.plugin("second", `[ $CNI_COMMAND = ADD ] || exit 0\nsleep 3000 & echo $! > ${pidFile}; wait`);
    await assert.rejects(on.open(list({ type: "second" }), { timeoutMs: 1000 }), (error) => {
      assert(error instanceof UnavailableError && error.cause instanceof DeadlineExceededError);
      assert.match(error.message, /plugin type="second" failed \(add\): it has not ended within 1000 ms/);
      return true;
    });
    // Killed it may still wait for its new parent to look; running it must not be.
    const status = await readFile(`/proc/${(await readFile(pidFile, "utf8")).trim()}/status`, "utf8").catch(
      () => "",
    );
    assert.doesNotMatch(status, /^State:\s+[RSD]/m);
    assert.deepEqual(await on.left(), []);
  });

  test("is refused with a plugin that is not there", async () => {
    await using on = await fixture();
    await assert.rejects(on.open(list({ type: "absent" })), (error) => {
      assert(error instanceof FailedPreconditionError);
      assert.match(error.message, /^failed to find plugin "absent" in path \[.*\/bin\]$/);
      return true;
    });
  });

  test("works though its plugins find fault with it, and says so", async () => {
    await using on = await fixture();
    await on.plugin(
      "first",
      `[ $CNI_COMMAND = CHECK ] && { echo '{"code":101,"msg":"no veth"}'; exit 1; }\necho '${result}'`,
    );
    await using _provider = await on.open(list({ type: "first" }));
    assert.match(on.log.find(({ reason }) => reason !== undefined)?.reason ?? "", /no veth \(code 101\)/);
  });

  test("is left alone when the step has gone before it was there, and used by the next one", async () => {
    await using on = await fixture();
    await using provider = await on.open(list({ type: "first" }));
    const controller = new AbortController();
    const opening = provider.open(plain, controller.signal);
    controller.abort(new Error("taken back"));
    await assert.rejects(opening, /taken back/);
    const named = new AbortController();
    const other = provider.open({ ...plain, hostname: "box" }, named.signal);
    named.abort(new Error("taken back too"));
    await assert.rejects(other, /taken back too/);
    await provider[Symbol.asyncDispose]();
    assert.deepEqual(await on.left(), []);
  });
});

describe("the networks of an earlier process", () => {
  test("are removed under the configuration that made them", async () => {
    await using on = await fixture();
    // Never disposed of: as if the process had been killed.
    const killed = await on.open(list({ type: "first" }, { type: "second" }));
    await killed.open(plain, patient);
    await killed.open({ ...plain, hostname: "box" }, patient);
    await on.forget();
    await using _provider = await on.open({ cniVersion: "1.0.0", name: "other", type: "first" });
    const calls = await on.calls();
    const undone = calls.filter(({ command, config }) => command === "DEL" && config["name"] === "net");
    assert.equal(undone.length, 4);
    for (const { config, netns } of undone) {
      assert.deepEqual(config["prevResult"], JSON.parse(result));
      assert.equal(netns, "nsfs");
    }
    assert.deepEqual(await on.left(), []);
  });

  test("are removed also where the name space is gone, and what was half written", async () => {
    await using on = await fixture();
    const killed = await on.open(list({ type: "first" }));
    const { namespace } = await killed.open(plain, patient);
    assert(typeof namespace === "object");
    for (const point of await mountPointsBeneath(on.directory)) {
      const { umount2 } = await import("@oci-worker/libc/mount");
      umount2(point, 0);
    }
    await writeFile(join(on.directory, "attachments/half.json.new"), "{");
    await writeFile(join(on.directory, "attachments/torn.json"), "{");
    await writeFile(join(on.directory, "cni/stray"), "");
    await on.forget();
    await using _provider = await on.open(list({ type: "first" }));
    const [first] = await on.calls();
    assert.deepEqual([first?.command, first?.netns], ["DEL", ""]);
    assert.deepEqual(await on.left(), []);
  });

  test("are tried once more where a plugin could not undo them, and then given up", async () => {
    await using on = await fixture();
    await on.plugin("first", `[ $CNI_COMMAND = DEL ] && exit 1\necho '${result}'`);
    {
      await using _provider = await on.open(list({ type: "first" }));
    }
    assert.equal((await on.left()).length, 1, "it is still on record");
    await on.plugin("first");
    await on.forget();
    {
      await using _provider = await on.open(list({ type: "second" }));
    }
    assert.deepEqual((await on.calls())[0]?.type, "first");
    assert.deepEqual(await on.left(), []);
  });
});
