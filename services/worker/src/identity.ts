import { readFile, rename, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { compileFilters } from "@oci-worker/filters/filters";
import { formatPlatform, type Platform } from "@oci-worker/oci/platform";
import type { Logger } from "pino";
import { newId } from "./new-id.ts";
import { HostPlatforms } from "./platforms/host-platforms.ts";

/** What the worker says of itself. */
export interface Identity {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  /** What it builds for now, its own platform first: emulators come and go. */
  platforms(): Promise<readonly Platform[]>;
}

export interface IdentityInput {
  readonly root: string;
  /** Those of the operator; they win over our own. */
  readonly labels: Readonly<Record<string, string>>;
  /** Those of the operator; empty: what runs on this machine. */
  readonly platforms: readonly Platform[];
  readonly snapshotter: string;
  /** Where the network of a step comes from. */
  readonly network: string;
  /** Whether steps share the worker's processes. */
  readonly noProcessSandbox: boolean;
  /** Whether steps are labelled for SELinux. */
  readonly selinux: boolean;
  /** That confines steps; empty for none. */
  readonly apparmorProfile: string;
  /** How long it is not looked again what runs on this machine, in milliseconds. */
  readonly platformsCacheMaxAge: number;
  readonly log: Logger;
}

/** What {@link newId} makes. */
const idForm = /^[0-9a-z]{25}$/;

/** Names of labels that clients select workers by. */
const labelPrefix = "org.mobyproject.buildkit.worker.";

/** The worker's identity: the id is made once and kept in its root, so that it stays the same worker. */
export async function identify({
  root,
  labels,
  platforms,
  snapshotter,
  network,
  noProcessSandbox,
  selinux,
  apparmorProfile,
  platformsCacheMaxAge,
  log,
}: IdentityInput): Promise<Identity> {
  const host = new HostPlatforms(join(root, "probe"), platformsCacheMaxAge, log);
  await warnOfForeign(platforms, host, log);
  return {
    id: await persistentId(join(root, "workerid")),
    labels: {
      [`${labelPrefix}executor`]: "oci",
      [`${labelPrefix}snapshotter`]: snapshotter,
      [`${labelPrefix}hostname`]: hostname(),
      [`${labelPrefix}network`]: network,
      [`${labelPrefix}oci.process-mode`]: noProcessSandbox ? "no-sandbox" : "sandbox",
      [`${labelPrefix}selinux.enabled`]: String(selinux),
      ...(apparmorProfile !== "" && { [`${labelPrefix}apparmor.profile`]: apparmorProfile }),
      ...labels,
    },
    platforms: async () => (platforms.length > 0 ? platforms : await host.list()),
  };
}

/** Tells of platforms of the operator's whose programs do not run here: their images can be pulled all the same. */
async function warnOfForeign(
  platforms: readonly Platform[],
  host: HostPlatforms,
  log: Logger,
): Promise<void> {
  if (platforms.length === 0) {
    return;
  }
  const running = (await host.list()).map(formatPlatform);
  for (const platform of platforms.map(formatPlatform)) {
    if (!running.includes(platform)) {
      log.warn(
        { platform, running },
        "programs of this platform do not run here, want an emulator (binfmt_misc)",
      );
    }
  }
}

async function persistentId(path: string): Promise<string> {
  const kept = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") {
      return "";
    }
    throw error;
  });
  if (idForm.test(kept)) {
    return kept;
  }
  const id = newId();
  // All of it or nothing: half an id would be taken for one at the next start.
  await writeFile(`${path}.new`, id, { mode: 0o400, flush: true });
  await rename(`${path}.new`, path);
  return id;
}

/**
 * Whether a client that lists workers with `filters` means this one. Their fields are `id` and `labels.KEY`.
 *
 * @throws {InvalidArgumentError} if a filter cannot be read.
 */
export function workerMatches(identity: Identity, filters: readonly string[]): boolean {
  const fields =
    ([first, ...rest]: readonly string[]) =>
    ({ id, labels }: Identity) => {
      const key = rest.join(".");
      return first === "id" ? id : first === "labels" && Object.hasOwn(labels, key) ? labels[key] : undefined;
    };
  return compileFilters(filters, fields, (problem) => {
    throw new InvalidArgumentError(`Cannot list workers: ${problem}`);
  })(identity);
}
