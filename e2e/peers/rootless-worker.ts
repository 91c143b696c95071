import { chmod, mkdir, mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BuildKitClient } from "@oci-worker/client";
import { makeDevice, mknod, S_IFCHR } from "@oci-worker/libc/file";
import { image, type RunOptions, run } from "@oci-worker/llb/build";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import type { Reference } from "@oci-worker/oci/reference";
import { assembleImage, layerOf, programs } from "./image.ts";
import { type ProcessPeer, startProcess } from "./process.ts";
import { pushTo } from "./pushed-image.ts";
import { type RegistryPeer, startRegistry } from "./registry.ts";
import { makeUser, type UnprivilegedUser } from "./unprivileged-user.ts";

export interface RootlessOptions {
  /** Flags of the worker. */
  readonly args?: (user: UnprivilegedUser) => readonly string[];
  /** Options of RootlessKit for its network; absent: the host's. */
  readonly network?: readonly string[];
  /** Text of the user's config file. */
  readonly config?: (registryHost: string) => string;
}

/** A user whose own worker runs under RootlessKit, and an image in a registry. Disposing ends it all. */
export interface RootlessWorker extends AsyncDisposable {
  readonly user: UnprivilegedUser;
  readonly registry: RegistryPeer;
  /** An image with programs, a file of another user, and a device. */
  readonly reference: Reference;
  readonly worker: ProcessPeer;
  readonly client: BuildKitClient;
}

/** Starts one. Call it from a mount name space that nobody else has (enter-own-namespaces.ts). */
export async function startRootlessWorker({
  args = () => [],
  network = ["--net=host"],
  config = () => "",
}: RootlessOptions = {}): Promise<RootlessWorker> {
  await using undo = new AsyncDisposableStack();
  const user = undo.use(await makeUser());
  const registry = undo.use(await startRegistry());
  await mkdir(join(user.home, ".config/buildkit"), { recursive: true });
  await writeFile(join(user.home, ".config/buildkit/buildkitd.toml"), config(registry.host));
  const layers = [
    await layerOf(await programs()),
    await layerOf([
      { type: "file", name: "etc/owned", uid: 1000, gid: 1001, mode: 0o4755, content: Buffer.from("x") },
      { type: "character device", name: "dev/kmsg", deviceMajor: 1, deviceMinor: 11 },
    ]),
  ];
  const reference = await pushTo(registry, assembleImage(layers));
  const [program, ...rest] = user.as([
    "rootlesskit",
    ...network,
    join(user.repository, "services/worker/bin/oci-worker"),
    ...args(user),
  ]);
  const worker = undo.use(
    await startProcess({ program, args: rest, ready: /"name":"worker".*"msg":"serving"/ }),
  );
  const client = undo.use(
    new BuildKitClient(`unix://${join(user.runtimeDirectory, "oci-worker/worker.sock")}`),
  );
  const owned = undo.move();
  return { user, registry, reference, worker, client, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** A step in the worker's image. */
export function step(
  { reference }: Pick<RootlessWorker, "reference">,
  script: string,
  options: Partial<RunOptions> = {},
) {
  return run({ root: image(reference), args: ["sh", "-c", script], env: ["PATH=/bin"], ...options }).root;
}

/** What a build prints on standard output. */
export async function outputOf(build: ReturnType<BuildKitClient["solve"]>): Promise<string> {
  let text = "";
  for await (const { logs } of build.status) {
    for (const { data, stream } of logs) {
      text += stream === "stdout" ? Buffer.from(data).toString() : "";
    }
  }
  await build.result;
  return text;
}

/** The processes of this machine whose command line has `marker` in it. */
export async function processesWith(marker: string): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((each) => /^\d+$/.test(each));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      return commandLine.split("\0").includes(marker) ? [pid] : [];
    }),
  );
  return found.flat();
}

/** What the worker says of itself under the name `name`. */
export async function labelOf(client: BuildKitClient, name: string): Promise<string | undefined> {
  const [worker] = await client.workers();
  return worker?.labels[`org.mobyproject.buildkit.worker.${name}`];
}

/** Lets everybody use a device, as most machines do: a node of its own, in this mount name space alone. */
export async function openToAll(device: string, major: number, minor: number): Promise<AsyncDisposable> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "device-")));
  const path = join(directory.path, "device");
  mknod(path, S_IFCHR | 0o600, makeDevice(major, minor));
  await chmod(path, 0o666);
  await mountAll([{ type: "bind", source: path, options: ["bind"] }], device);
  undo.defer(() => unmount(device));
  const owned = undo.move();
  return { [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
