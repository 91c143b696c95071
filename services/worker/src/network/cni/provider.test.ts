import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import {
  DeadlineExceededError,
  FailedPreconditionError,
  InvalidArgumentError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { mknod, S_IFIFO } from "@oci-worker/libc/file";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { list, pathOf, patient, plain, result, samplePlugins } from "./sample-plugins.ts";

/** Waits until a process runs no more. It may be a zombie for longer: that is for its new parent to see to. */
async function untilEnded(pid: string): Promise<void> {
  while (/^State:\s+[RSD]/m.test(await readFile(`/proc/${pid}/status`, "utf8").catch(() => ""))) {
    await setImmediate();
  }
}

describe("a CNI network", () => {
  test("proves itself by one name space: each plugin told what those before it made, undone in reverse", async () => {
    await using on = await samplePlugins();
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
    await using on = await samplePlugins();
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
    await using on = await samplePlugins();
    const old = '{"cniVersion":"0.1.0","ip4":{"ip":"10.9.8.7/24"}}';
    const script = `[ $CNI_COMMAND = VERSION ] && { echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1; }`;
    const file = join(on.path, "bin/ancient");
    await writeFile(file, `#!/bin/sh\ncat > /dev/null\n${script}\necho '${old}'\n`, { mode: 0o755 });
    await using provider = await on.open({ name: "net", type: "ancient" });
    await using _network = await provider.open(plain, patient);
  });

  test("tells plugins only what they ask for", async () => {
    await using on = await samplePlugins();
    const asks = { dns: true, portMappings: true, bandwidth: false };
    await using _provider = await on.open(list({ type: "first", capabilities: asks }, { type: "second" }));
    const [, first, second] = await on.calls();
    assert.deepEqual(first?.config["runtimeConfig"], { dns: { servers: ["10.0.0.53"] } });
    assert(!("capabilities" in (first?.config ?? {})));
    assert(!("runtimeConfig" in (second?.config ?? {})));
  });

  test("is used again after a step, by one at a time, and taken down in the end", async () => {
    await using on = await samplePlugins();
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
    await using on = await samplePlugins();
    await using provider = await on.open(list({ type: "first" }));
    const insecure = await provider.open({ ...plain, insecure: true }, patient);
    await insecure[Symbol.asyncDispose]();
    assert.deepEqual(await mountPointsBeneath(on.directory), []);
    await using next = await provider.open(plain, patient);
    assert.notEqual(pathOf(next), pathOf(insecure));
  });

  test("makes name spaces ahead of need", async () => {
    await using on = await samplePlugins();
    await using provider = await on.open(list({ type: "first" }), { poolSize: 2 });
    // The pool is being filled; the steps get those, or, if they are quicker, ones of their own.
    await using _one = await provider.open(plain, patient);
    await provider[Symbol.asyncDispose]();
    const made = (await on.calls()).filter(({ command, type }) => command === "ADD" && type === "first");
    assert(made.length >= 3, "the proof and the pool");
  });

  test("makes a name known, and takes none that would say more", async () => {
    await using on = await samplePlugins();
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
      await using on = await samplePlugins();
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

  test("is refused with a plugin that hangs, which is killed with what it has started", async (context) => {
    await using on = await samplePlugins();
    const started = join(on.path, "started");
    mknod(started, S_IFIFO | 0o600, 0n);
    await on.plugin("second", `[ $CNI_COMMAND = ADD ] || exit 0\nsleep 3000 & echo $! > ${started}; wait`);
    context.mock.timers.enable({ apis: ["setTimeout"] });
    const refused = assert.rejects(on.open(list({ type: "second" }), { timeoutMs: 1000 }), (error) => {
      assert(error instanceof UnavailableError && error.cause instanceof DeadlineExceededError);
      assert.match(error.message, /plugin type="second" failed \(add\): it has not ended within 1000 ms/);
      return true;
    });
    const pid = (await readFile(started, "utf8")).trim();
    context.mock.timers.tick(1000);
    await refused;
    await untilEnded(pid);
    assert.deepEqual(await on.left(), []);
  });

  test("is refused with a plugin that is not there", async () => {
    await using on = await samplePlugins();
    await assert.rejects(on.open(list({ type: "absent" })), (error) => {
      assert(error instanceof FailedPreconditionError);
      assert.match(error.message, /^failed to find plugin "absent" in path \[.*\/bin\]$/);
      return true;
    });
  });

  test("works though its plugins find fault with it, and says so", async () => {
    await using on = await samplePlugins();
    await on.plugin(
      "first",
      `[ $CNI_COMMAND = CHECK ] && { echo '{"code":101,"msg":"no veth"}'; exit 1; }\necho '${result}'`,
    );
    await using _provider = await on.open(list({ type: "first" }));
    assert.match(on.log.find(({ reason }) => reason !== undefined)?.reason ?? "", /no veth \(code 101\)/);
  });

  test("is left alone when the step has gone before it was there, and used by the next one", async () => {
    await using on = await samplePlugins();
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
