import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { mknod, S_IFIFO } from "@oci-worker/libc/file";
import { umount2 } from "@oci-worker/libc/mount";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { list, patient, plain, result, samplePlugins } from "./sample-plugins.ts";

describe("the networks of an earlier process", () => {
  test("are removed under the configuration that made them", async () => {
    await using on = await samplePlugins();
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

  test("are not removed before the plugins that it had called have ended", async () => {
    await using on = await samplePlugins();
    const [started, go] = [join(on.path, "started"), join(on.path, "go")];
    for (const fifo of [started, go]) {
      mknod(fifo, S_IFIFO | 0o600, 0n);
    }
    await on.plugin(
      "first",
      `[ $CNI_COMMAND = ADD ] && { echo > ${started}; timeout 60 sh -c "read line < ${go}"; }\necho '${result}'`,
    );
    const file = (name: string) => JSON.stringify(import.meta.resolve(name));
    const child = spawn(process.execPath, [
      "--input-type=module-typescript",
      "--eval",
      `import { pino } from ${file("pino")};
       import { CniNamespaces } from ${file("./namespaces.ts")};
       const log = pino({ level: "silent" });
       const options = { directory: ${JSON.stringify(on.directory)}, pluginTimeoutMs: 60_000, capabilities: {}, log };
       const namespaces = await CniNamespaces.open(options);
       const plugins = namespaces.pluginsIn([${JSON.stringify(on.binaries)}]);
       const network = { name: "net", cniVersion: "1.0.0", disableCheck: true, plugins: [{ type: "first" }] };
       await namespaces.create([{ network, ifname: "eth0" }], plugins, "");`,
    ]);
    await readFile(started);
    child.kill("SIGKILL");
    await once(child, "exit");
    const opening = on.open(list({ type: "second" }));
    await on.logged("waiting for plugins of an earlier run");
    assert.deepEqual(
      (await on.calls()).map(({ command }) => command),
      ["ADD"],
    );
    await writeFile(go, "go\n");
    await using _provider = await opening;
    const [, undone] = await on.calls();
    assert.deepEqual([undone?.type, undone?.command], ["first", "DEL"]);
    assert.deepEqual(await on.left(), []);
  });

  test("are removed also where the name space is gone, and what was half written", async () => {
    await using on = await samplePlugins();
    const killed = await on.open(list({ type: "first" }));
    const { namespace } = await killed.open(plain, patient);
    assert(typeof namespace === "object");
    for (const point of await mountPointsBeneath(on.directory)) {
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
    await using on = await samplePlugins();
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
