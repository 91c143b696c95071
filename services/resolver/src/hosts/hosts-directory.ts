import { statSync } from "node:fs";
import { join } from "node:path";
import { UnavailableError } from "@oci-worker/errdefs";
import { type RegistryHost, type TlsSettings, upstreamHost } from "@oci-worker/registry/host";
import type { Logger } from "pino";
import { FreshFile } from "../fresh-file.ts";
import type { Access } from "../handle.ts";
import { type HostSection, type HostsFile, parseHostsFile } from "./hosts-file.ts";
import { readTlsConfigDirs } from "./tls-config-dir.ts";

/** Longest `hosts.toml` that is read, in bytes. */
const maxFileBytes = 1024 * 1024;

/** The directory for registries without one of their own. */
const defaultDirectory = "_default";

/**
 * The settings of registries in a folder of containerd's (docs/hosts.md): for each a directory with a `hosts.toml`, or
 * with TLS files as Docker has them. Looked at anew each time.
 */
export class HostsDirectory {
  readonly #path: string;
  readonly #log: Logger;
  readonly #files = new Map<string, FreshFile<HostsFile>>();

  constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  /**
   * The hosts of the registry `domain` that take part in `access`, in the order in which to try them; undefined if there
   * is no directory for it.
   *
   * @throws {UnavailableError} naming the file that cannot be used.
   */
  async hostsFor(domain: string, access: Access): Promise<RegistryHost[] | undefined> {
    const sections = await this.#sections([...directoryNames(domain), defaultDirectory]);
    return sections
      ?.map((section) => hostOf(section, domain))
      .filter(({ capabilities }) => capabilities.some((each) => (each === "push") === (access === "push")));
  }

  /** How to connect to the server `host` itself; undefined if it has no directory of its own. */
  async serverTls(host: string): Promise<{ readonly tls?: TlsSettings } | undefined> {
    const server = (await this.#sections(directoryNames(host)))?.at(-1);
    const isItself = server !== undefined && (server.endpoint?.host ?? host) === host;
    return isItself ? { ...(server.tls && { tls: server.tls }) } : undefined;
  }

  async #sections(names: readonly string[]): Promise<readonly HostSection[] | undefined> {
    for (const name of names) {
      const directory = join(this.#path, name);
      if (isThere(directory)) {
        const file = await this.#file(directory).read();
        return file?.sections ?? [await onlyTls(directory)];
      }
    }
    return undefined;
  }

  /** There are as many of these as directories, and never more: only what is there is opened. */
  #file(directory: string): FreshFile<HostsFile> {
    const known = this.#files.get(directory);
    if (known !== undefined) {
      return known;
    }
    const path = join(directory, "hosts.toml");
    const file = new FreshFile(path, maxFileBytes, (bytes) => {
      const read = parseHostsFile(bytes.toString("utf8"), directory);
      if (read.unknownKeys.length > 0) {
        this.#log.warn({ path, keys: read.unknownKeys }, "keys that mean nothing here");
      }
      return read;
    });
    this.#files.set(directory, file);
    return file;
  }
}

/** What a directory may be called: containerd prefers the spelling without the colon, which some file systems lack. */
function directoryNames(domain: string): string[] {
  const port = /^(.+):(\d+)$/.exec(domain);
  return port === null ? [domain] : [`${port[1]}_${port[2]}_`, domain];
}

/** Each resolution asks for some directories that are mostly absent: this takes 2 us, and 60 by the thread pool. */
function isThere(directory: string): boolean {
  try {
    return statSync(directory, { throwIfNoEntry: false })?.isDirectory() ?? false;
  } catch (cause) {
    throw new UnavailableError(`Cannot use ${directory}: it cannot be opened`, { cause });
  }
}

/** Docker's layout: TLS files for the registry itself. */
async function onlyTls(directory: string): Promise<HostSection> {
  const { caFiles, keyPairs } = await readTlsConfigDirs([directory]);
  const tls = { ...(caFiles.length > 0 && { caFiles }), ...(keyPairs.length > 0 && { keyPairs }) };
  return { capabilities: ["pull", "resolve", "push"], ...(Object.keys(tls).length > 0 && { tls }) };
}

/** A host that is not the registry's own stands in for it, and is told for which one. */
function hostOf({ endpoint, capabilities, tls, headers }: HostSection, domain: string): RegistryHost {
  const upstream = upstreamHost(domain);
  const { scheme, host, path } = endpoint ?? upstream;
  return {
    // Whoever has given a registry on this machine TLS settings means them.
    scheme: endpoint === undefined && tls !== undefined ? "https" : scheme,
    host,
    path,
    capabilities,
    ...(tls && { tls }),
    ...(headers && { headers }),
    ...(host !== upstream.host && { upstreamNamespace: domain }),
  };
}
