import assert from "node:assert/strict";
import { cp, mkdir, mkdtempDisposable, readdir, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { pino } from "pino";
import { noEdits } from "../cdi/container-edits.ts";
import { hostNetwork, Networks } from "../network/networks.ts";
import { ProxyNetworks } from "../network/proxy/proxy-networks.ts";
import { Executor, type ExecutorOptions } from "./executor.ts";
import { findRuntime } from "./find-runtime.ts";
import { Runc } from "./runc.ts";
import type { Step } from "./step.ts";

const applets =
  "cat chmod chown dd echo env grep head hostname id kill ln ls mkdir mknod mount mv pwd rm rmdir sh sleep stat stty test touch true tty wc yes".split(
    " ",
  );

/** The runtimes that steps must be the same under. */
export const runtimes = ["runc", join(import.meta.dirname, "sample-crun.sh")];

/**
 * An executor of its own, and a directory tree with busybox in it that serves as image. Disposing checks that nothing is
 * left.
 *
 * @param runtime name or path of it.
 * @param more options of the executor that are otherwise than usual.
 */
export async function fixture(runtime = "runc", more: Partial<ExecutorOptions> = {}) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "executor-")));
  await more.remap?.admitTo(directory.path);
  const image = join(directory.path, "image");
  await mkdir(join(image, "bin"), { recursive: true });
  await mkdir(join(image, "etc"));
  await cp("/bin/busybox", join(image, "bin/busybox"));
  for (const applet of applets) {
    await symlink("busybox", join(image, "bin", applet));
  }
  await writeFile(
    join(image, "etc/passwd"),
    "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
  );
  await writeFile(join(image, "etc/group"), "root:x:0:\napp:x:1001:\nextra:x:2000:app,other\n");
  const runc = new Runc({
    binary: await findRuntime(runtime),
    stateDirectory: join(directory.path, "state"),
  });
  const bundles = join(directory.path, "bundles");
  const log = pino({ level: "silent" });
  const proxied = undo.use(
    await ProxyNetworks.open({ directory: join(directory.path, "proxy"), owner: undefined, log }),
  );
  const executor = new Executor({
    directory: bundles,
    runc,
    networks: new Networks(hostNetwork, proxied),
    dns: { nameservers: [], searchDomains: [], options: [] },
    syncsOnCommit: true,
    apparmorProfile: "",
    selinux: undefined,
    isRootless: false,
    sharesProcesses: false,
    remap: undefined,
    traceSocketPath: undefined,
    log,
    ...more,
  });
  await executor.recover();
  undo.defer(async () => {
    assert.deepEqual(await readdir(bundles), [], "a bundle was left behind");
    assert.deepEqual(await mountPointsBeneath(directory.path), [], "a mount was left behind");
    assert.deepEqual(await runc.list(), [], "a container was left behind");
  });
  const owned = undo.move();
  return {
    executor,
    runc,
    image,
    bundles,
    path: directory.path,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

let steps = 0;

/** A step in `image` that runs `args`. */
export function step(image: string, args: readonly string[], more: Partial<Step> = {}): Step {
  steps += 1;
  return {
    id: `test-${process.pid}-${steps}`,
    rootMounts: [{ type: "bind", source: image, options: ["rw", "rbind"] }],
    readonlyRootfs: false,
    mounts: [],
    removeStubParents: true,
    args,
    env: ["PATH=/bin"],
    secretEnv: [],
    cwd: "/",
    user: "",
    hostname: "",
    extraHosts: [],
    network: "default",
    proxied: false,
    insecure: false,
    cgroupParent: "",
    limits: [],
    edits: noEdits,
    trace: undefined,
    ...more,
  };
}

/** Runs `what` and gives its output, the two streams apart. `onOutput` hears that there is some. */
export async function run(
  executor: Executor,
  what: Step,
  signal = new AbortController().signal,
  onOutput = () => {},
) {
  const output: Record<1 | 2, string> = { 1: "", 2: "" };
  const exit = await executor.run(
    what,
    {
      onOutput: (stream, chunk) => {
        output[stream] += chunk.toString();
        onOutput();
      },
    },
    signal,
  );
  return { ...exit, stdout: output[1], stderr: output[2] };
}
