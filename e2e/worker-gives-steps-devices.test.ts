import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtempDisposable, readFile, rename, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { createClient } from "@connectrpc/connect";
import { Control } from "@oci-worker/api/buildkit/control";
import { BuildError } from "@oci-worker/client/build-error";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image, type RunOptions, run } from "@oci-worker/llb/build";
import { formatReference, type Reference } from "@oci-worker/oci/reference";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerOptions, type WorkerPeer } from "./peers/worker.ts";

/** A worker, an image for its steps, and a directory for specifications that it is not told of unless `options` do. */
async function fixture(options: (directory: string) => WorkerOptions) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "cdi-")));
  const registry = undo.use(await startRegistry());
  const reference = await pushTo(registry, await createImage());
  const worker = undo.use(await startWorker(options(directory.path)));
  const owned = undo.move();
  return { reference, worker, directory: directory.path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

interface Device {
  readonly name: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly containerEdits: Readonly<Record<string, unknown>>;
}

const env = (name: string, variable: string): Device => ({ name, containerEdits: { env: [variable] } });

/** Puts the specification of `devices` in place as a whole, as its writers should. */
async function specify(
  directory: string,
  devices: readonly Device[],
  more: Readonly<Record<string, unknown>> = {},
) {
  await mkdir(directory, { recursive: true });
  const spare = join(directory, "spare");
  await writeFile(spare, JSON.stringify({ cdiVersion: "0.6.0", kind: "vendor.com/test", devices, ...more }));
  await rename(spare, join(directory, "test.json"));
}

type Asked = Pick<RunOptions, "devices" | "ignoreCache"> & { readonly allow?: readonly string[] };

function definition(reference: Reference, script: string, { devices, ignoreCache }: Asked) {
  const options = { ...(devices && { devices }), ...(ignoreCache && { ignoreCache }) };
  const { root } = run({
    root: image(reference),
    args: ["sh", "-c", script],
    env: ["PATH=/bin"],
    ...options,
  });
  return definitionOf(root);
}

/** What `script` prints in a step, and whether it was run at all. */
async function outputOf(
  { worker, reference }: { readonly worker: WorkerPeer; readonly reference: Reference },
  script: string,
  asked: Asked,
) {
  const build = worker.client.solve(definition(reference, script, asked), {
    entitlements: asked.allow ?? [],
  });
  let output = "";
  for await (const { logs } of build.status) {
    output += logs.map(({ data }) => Buffer.from(data).toString()).join("");
  }
  await build.result;
  return output;
}

function refusedWith(message: RegExp) {
  return (error: unknown) => {
    assert(error instanceof BuildError, String(error));
    assert.match(error.message, message);
    return true;
  };
}

describe("devices of steps", () => {
  test("are had with all that their specification says, and listed", async () => {
    await using on = await fixture((directory) => ({ args: ["--cdi-spec-dir", directory] }));
    assert.deepEqual((await on.worker.client.workers())[0]?.devices, []);
    const [hook, trace] = [join(on.directory, "hook"), join(on.directory, "trace")];
    await writeFile(hook, `#!/bin/sh\ncat >>"${trace}"\n`);
    await chmod(hook, 0o755);
    await writeFile(join(on.directory, "library"), "of the device\n");
    const full: Device = {
      name: "full",
      annotations: { colour: "blue" },
      containerEdits: {
        env: ["DEVICE=full"],
        deviceNodes: [{ path: "/dev/mine", hostPath: "/dev/full" }],
        mounts: [
          { hostPath: join(on.directory, "library"), containerPath: "/lib/library", options: ["ro", "bind"] },
        ],
        hooks: [{ hookName: "createRuntime", path: hook }],
      },
    };
    await specify(on.directory, [full], { containerEdits: { env: ["ALL=devices"] } });
    assert.deepEqual((await on.worker.client.workers())[0]?.devices, [
      {
        name: "vendor.com/test=full",
        isAutoAllowed: false,
        isOnDemand: false,
        annotations: { colour: "blue" },
      },
    ]);
    const script =
      "echo $DEVICE $ALL; cat /lib/library; stat -c '%F %t:%T' /dev/mine; { echo x >/dev/mine; } 2>&1; true";
    const output = await outputOf(on, script, {
      devices: [{ name: "vendor.com/test=full" }],
      allow: ["device=vendor.com/test=full"],
    });
    assert.match(output, /^full devices\nof the device\ncharacter special file 1:7\n/);
    assert.match(output, /No space left on device/);
    assert.match(await readFile(trace, "utf8"), /"ociVersion"/, "the hook was told of the container");
  });

  test("are not had unless the client allows them, by whatever way it asks", async () => {
    await using on = await fixture((directory) => ({
      args: ["--cdi-spec-dir", directory, "--allow-insecure-entitlement", "network.host"],
    }));
    await specify(on.directory, [env("a", "NAME=a"), env("b", "NAME=b")]);
    const devices = [{ name: "vendor.com/test=a" }];
    const refused =
      /device vendor\.com\/test=a is requested by the build but not allowed, want the client to/;
    for (const allow of [[], ["network.host"], ["device=vendor.com/test=b"]]) {
      await assert.rejects(outputOf(on, "true", { devices, allow }), refusedWith(refused));
    }
    using channel = unixChannel(on.worker.address);
    const solve = createClient(Control, channel).solve({
      Ref: "plain",
      Definition: definition(on.reference, "true", { devices }),
    });
    await assert.rejects(solve, refused);

    const script = "echo $NAME";
    for (const allow of [["device"], ["device=vendor.com/test=a"], ["device=vendor.com/test"]]) {
      assert.equal(await outputOf(on, script, { devices, allow, ignoreCache: true }), "a\n", String(allow));
    }
    const ociw = join(import.meta.dirname, "../services/ociw/bin/ociw");
    const words = ["--addr", on.worker.address, "run", "--device", "vendor.com/test=b"];
    const { stdout } = await promisify(execFile)(ociw, [
      ...words,
      formatReference(on.reference),
      "--",
      "sh",
      "-c",
      script,
    ]);
    assert.equal(stdout, "b\n");
    const alias = {
      ignoreCache: true,
      devices: [{ name: "any" }],
      allow: ["device=vendor.com/test=b,alias=any"],
    };
    assert.equal(await outputOf(on, script, alias), "b\n");
  });

  test("are there or not, as the step asks for them", async () => {
    await using on = await fixture((directory) => ({ args: ["--cdi-spec-dir", directory] }));
    const missing = { name: "vendor.com/test=missing" };
    await assert.rejects(
      outputOf(on, "true", { devices: [missing], allow: ["device"] }),
      refusedWith(/required device "vendor\.com\/test=missing" is not registered/),
    );
    const optional = { devices: [{ ...missing, optional: true }], allow: ["device"] };
    assert.equal(await outputOf(on, "echo $NAME none", optional), "none\n");
    await specify(on.directory, [env("missing", "NAME=found")]);
    assert.equal(
      await outputOf(on, "echo $NAME none", optional),
      "found none\n",
      "no result without it will do",
    );
    assert.equal(await outputOf(on, "echo $NAME none", optional), "", "its own result will");
    await writeFile(join(on.directory, "other.yaml"), "cdiVersion: [");
    const told =
      /"path":"[^"]*other\.yaml","problem":"it is neither JSON nor YAML.*CDI specification passed over/;
    assert.equal((await on.worker.client.workers())[0]?.devices.length, 1, "a file harms none of another");
    assert.equal(on.worker.process.log.filter((line) => told.test(line)).length, 1);
  });

  test("are those of the directories that the worker is given, the later ones before the others", async () => {
    const specDirs = (directory: string) =>
      `[cdi]\nspecDirs = ["${directory}/first", "${directory}/second"]\n`;
    await using on = await fixture((directory) => ({ config: specDirs(directory) }));
    await specify(join(on.directory, "first"), [env("a", "NAME=first"), env("b", "NAME=first")]);
    await specify(join(on.directory, "second"), [env("b", "NAME=second")]);
    const nameIn = (name: string) =>
      outputOf(on, "echo $NAME", { devices: [{ name: `vendor.com/test=${name}` }], allow: ["device"] });
    assert.deepEqual([await nameIn("a"), await nameIn("b")], ["first\n", "second\n"]);
    await using other = await startWorker({
      config: specDirs(on.directory),
      args: ["--cdi-spec-dir", join(on.directory, "second"), "--cdi-spec-dir", join(on.directory, "third")],
    });
    await specify(join(on.directory, "third"), [env("c", "NAME=third")]);
    const devices = (await other.client.workers())[0]?.devices.map(({ name }) => name);
    assert.deepEqual(devices, ["vendor.com/test=b", "vendor.com/test=c"]);
  });

  test("are had without asking if the operator or their specification says so", async () => {
    await using on = await fixture((directory) => ({
      config: '[cdi]\nautoAllowed = ["vendor.com/test=a", "other.com/kind"]\n',
      args: ["--cdi-spec-dir", directory],
    }));
    const annotations = { "org.mobyproject.buildkit.device.autoallow": "true" };
    await specify(on.directory, [
      env("a", "NAME=a"),
      env("b", "NAME=b"),
      { ...env("c", "NAME=c"), annotations },
    ]);
    const listed = (await on.worker.client.workers())[0]?.devices ?? [];
    assert.deepEqual(
      listed.map(({ isAutoAllowed }) => isAutoAllowed),
      [true, false, true],
    );
    const nameOf = (name: string) =>
      outputOf(on, "echo $NAME", { devices: [{ name: `vendor.com/test=${name}` }] });
    assert.deepEqual([await nameOf("a"), await nameOf("c")], ["a\n", "c\n"]);
    await assert.rejects(nameOf("b"), refusedWith(/device vendor\.com\/test=b is requested .* not allowed/));
  });

  test("are none where CDI is disabled", async () => {
    await using on = await fixture((directory) => ({
      args: ["--cdi-disabled", "--cdi-spec-dir", directory],
    }));
    const autoAllow = { "org.mobyproject.buildkit.device.autoallow": "true" };
    await specify(on.directory, [{ ...env("a", "NAME=a"), annotations: autoAllow }]);
    assert.deepEqual((await on.worker.client.workers())[0]?.devices, []);
    const device = { name: "vendor.com/test=a" };
    await assert.rejects(
      outputOf(on, "true", { devices: [device] }),
      refusedWith(/Cannot run a step with device "vendor\.com\/test=a": CDI is disabled/),
    );
    await assert.rejects(
      outputOf(on, "true", { devices: [device], allow: ["device"] }),
      refusedWith(/granting entitlement device is not allowed by build daemon configuration/),
    );
    const optional = { devices: [{ ...device, optional: true }] };
    assert.equal(await outputOf(on, "echo $NAME none", optional), "none\n");

    await using other = await startWorker({ args: ["--cdi-disabled", "--cdi-spec-dir", on.directory] });
    assert.deepEqual((await other.client.workers())[0]?.devices, []);
  });
});
