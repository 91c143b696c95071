import { execFile } from "node:child_process";
import { access, constants, readFile, rm, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import type { NetworkConfig } from "./config.ts";

const run = promisify(execFile);

/** iproute2 only asks the kernel. */
const ipTimeoutMs = 10_000;

/** The plugins of a bridge network by what they do, as their programs are called. */
export interface BridgePlugins {
  readonly bridge: string;
  readonly loopback: string;
  readonly hostLocal: string;
  /** Absent where it is not installed: it only makes up for a firewall that forwards nothing by itself. */
  readonly firewall?: string;
  readonly directories: readonly string[];
}

/** The names under which BuildKit's images carry the plugins. */
const packaged = { bridge: "bridge", loopback: "loopback", hostLocal: "host-local", firewall: "firewall" };

/**
 * Finds the plugins of a bridge network: `buildkit-cni-*` on PATH, where all of them are there; else those in
 * `directories`.
 *
 * @throws {FailedPreconditionError} naming what was looked for.
 */
export async function findBridgePlugins(
  directories: readonly string[],
  pathVariable: string,
): Promise<BridgePlugins> {
  const onPath = pathVariable.split(delimiter).filter(Boolean);
  const named = Object.entries(packaged).map(([role, name]) => [role, `buildkit-cni-${name}`] as const);
  const places = await Promise.all(named.map(([, name]) => placeOf(name, onPath)));
  if (places.every((place) => place !== undefined)) {
    const names = Object.fromEntries(named) as Record<keyof typeof packaged, string>;
    return { ...names, directories: [...new Set(places.map((place) => dirname(place)))] };
  }
  if ((await placeOf(packaged.bridge, directories)) === undefined) {
    throw new FailedPreconditionError(
      `failed to find CNI bridge ${JSON.stringify(join(directories[0] ?? "", "bridge"))} or buildkit-cni-bridge, want the CNI plugins installed`,
    );
  }
  const { firewall, ...required } = packaged;
  const hasFirewall = (await placeOf(firewall, directories)) !== undefined;
  return { ...required, ...(hasFirewall && { firewall }), directories };
}

/**
 * A bridge on the host with the steps' devices on it, its addresses from `subnet`; what goes beyond it leaves with the
 * host's address. Steps reach each other on the bridge, other bridges do not reach them.
 *
 * @param isRootless whether firewalld is out of reach, so that iptables must do.
 */
export function bridgeConfig(
  name: string,
  subnet: string,
  { bridge, hostLocal, firewall }: BridgePlugins,
  isRootless: boolean,
): NetworkConfig {
  return {
    name: "buildkit",
    cniVersions: ["1.0.0", "0.4.0"],
    disableCheck: false,
    plugins: [
      {
        type: bridge,
        bridge: name,
        isDefaultGateway: true,
        ipMasq: true,
        ipam: { type: hostLocal, ranges: [[{ subnet }]] },
      },
      ...(firewall === undefined
        ? []
        : [{ type: firewall, ingressPolicy: "same-bridge", ...(isRootless && { backend: "iptables" }) }]),
    ],
  };
}

/**
 * The bridges that we had the plugin make, by a file that names one: they are the worker's to remove, those that were there
 * before are not.
 */
export class OwnBridge {
  readonly #path: string;
  readonly #log: Logger;

  /** @param directory holds the file. */
  constructor(directory: string, log: Logger) {
    this.#path = join(directory, "bridge");
    this.#log = log;
  }

  /** Says that `name` is going to be made for us, unless it is there. Removes another one that is ours. */
  async claim(name: string | undefined): Promise<void> {
    const earlier = await this.#read();
    if (earlier !== undefined && earlier !== name) {
      await this.remove();
    }
    if (name !== undefined && earlier !== name && !(await deviceExists(name))) {
      await writeFile(this.#path, name, { mode: 0o600, flush: true });
    }
  }

  /** Removes the one that is ours, unless somebody else uses it by now. */
  async remove(): Promise<void> {
    const name = await this.#read();
    if (name === undefined) {
      return;
    }
    try {
      if (await deviceExists(name)) {
        await removeBridge(name);
      }
      await rm(this.#path, { force: true });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#log.warn({ bridge: name, reason }, "bridge stays");
    }
  }

  async #read(): Promise<string | undefined> {
    try {
      return await readFile(this.#path, "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") {
        return undefined;
      }
      throw error;
    }
  }
}

/** Asks the process's own network; /sys may show that of another name space. */
async function deviceExists(name: string): Promise<boolean> {
  const devices = await readFile("/proc/self/net/dev", "utf8");
  return devices.split("\n").some((line) => line.trimStart().startsWith(`${name}:`));
}

async function removeBridge(name: string): Promise<void> {
  const options = { timeout: ipTimeoutMs };
  const { stdout } = await run("ip", ["-oneline", "link", "show", "master", name], options);
  if (stdout.trim() !== "") {
    throw new FailedPreconditionError(`Cannot remove bridge ${name}: there are devices on it`);
  }
  await run("ip", ["link", "delete", "dev", name, "type", "bridge"], options);
}

async function placeOf(name: string, directories: readonly string[]): Promise<string | undefined> {
  for (const directory of directories) {
    const path = join(directory, name);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // The next directory may have it.
    }
  }
  return undefined;
}
