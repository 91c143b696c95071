import assert from "node:assert/strict";
import { once } from "node:events";
import { chmod, mkdir, mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { pino } from "pino";
import type { StepNetwork } from "../network.ts";
import { parseNetworkConfig } from "./config.ts";
import { CniNamespaces } from "./namespaces.ts";
import { CniProvider, type CniProviderOptions } from "./provider.ts";

export const patient = new AbortController().signal;
export const plain = { hostname: "", insecure: false };
const versions = '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}';
export const result = '{"cniVersion":"1.0.0","ips":[{"address":"10.9.8.7/24"}]}';

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

/**
 * For tests: directories for a provider, and plugins in it that are shell scripts and note how they were called. Disposing
 * checks that no name space is left.
 */
export async function samplePlugins() {
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
  const news = new EventTarget();
  const write = (line: string) => {
    log.push(JSON.parse(line));
    news.dispatchEvent(new Event("line"));
  };
  const logger = pino({ level: "debug" }, { write });

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
  let earlier: CniNamespaces | undefined;
  const open = async (config: object, more: Partial<CniProviderOptions> & { timeoutMs?: number } = {}) => {
    const timeoutMs = more.timeoutMs ?? 60_000;
    // What a process holds it holds no longer when the next one begins.
    await earlier?.[Symbol.asyncDispose]();
    const namespaces = await CniNamespaces.open({
      owner: undefined,
      directory,
      netns: undefined,
      pluginTimeoutMs: timeoutMs,
      capabilities: { dns: { servers: ["10.0.0.53"] } },
      log: logger,
    });
    earlier = namespaces;
    return await CniProvider.open({
      config: parseNetworkConfig(JSON.stringify(config), "test.conf"),
      loopbackType: "loopback",
      plugins: namespaces.pluginsIn([binaries]),
      namespaces,
      poolSize: 0,
      idleMs: 1_000_000,
      log: logger,
      ...more,
    });
  };
  undo.defer(async () => earlier?.[Symbol.asyncDispose]());
  const owned = undo.move();
  return {
    path,
    binaries,
    logged: async (message: string) => {
      while (!log.some(({ msg }) => msg === message)) {
        await once(news, "line");
      }
    },
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

export function list(...plugins: readonly object[]) {
  return { cniVersion: "1.0.0", name: "net", plugins };
}

export function pathOf({ namespace }: StepNetwork): string {
  assert(typeof namespace === "object");
  return namespace.path;
}
