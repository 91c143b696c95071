import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FailedPreconditionError, InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import { MS_RDONLY, mountFlagsOf } from "@oci-worker/libc/mount";
import { parseMountInfo } from "@oci-worker/mounts/mountinfo";
import { codeOf } from "../error-code.ts";
import { labelAt, parseLabel, type SelinuxContext } from "./context.ts";

/** What the policy of this host has for containers. */
export interface SelinuxPolicy {
  /** Of their processes. */
  readonly process: SelinuxContext;
  /** Of the files that these may read and write. */
  readonly file: SelinuxContext;
}

/** Where kernel and policy tell of themselves. */
export interface SelinuxPlaces {
  readonly mountInfo: string;
  /** The label of this process. */
  readonly ownLabel: string;
  /** selinux_config(5). */
  readonly config: string;
  /** A directory of each policy, by its type. */
  readonly policies: string;
  /** In place of the policy's own contexts, if it is there: that of the distribution's container tools. */
  readonly contexts: string;
}

const places: SelinuxPlaces = {
  mountInfo: "/proc/self/mountinfo",
  ownLabel: "/proc/self/attr/current",
  config: "/etc/selinux/config",
  policies: "/etc/selinux",
  contexts: "/usr/share/containers/selinux/contexts",
};

/** Of such a file, which has some lines. */
const maxFileBytes = 64 * 1024;

/** What libselinux goes by where the config says nothing. */
const defaultPolicyType = "targeted";

const wanted = "Cannot use --oci-worker-selinux=true";

/**
 * Finds out that SELinux is in force here and how its policy labels containers. Better to fail at start than at each step.
 *
 * @throws {FailedPreconditionError} if it is not, or does not know the labels of its own policy.
 * @throws {NotFoundError} if the policy has nothing for containers.
 * @throws {InvalidArgumentError} if its files are not as they should be.
 */
export async function readSelinuxPolicy(from = places): Promise<SelinuxPolicy> {
  const selinuxfs = await requireSelinux(from);
  const path = await contextsPath(from);
  const contexts = assignments(await readBounded(path));
  const contextOf = (name: string) => {
    const label = contexts.get(name);
    if (label === undefined) {
      throw new NotFoundError(
        `${wanted}: ${path} has no line for ${name}, want a policy that knows containers (container-selinux)`,
      );
    }
    return parseLabel(label, `${name} of ${path}`);
  };
  const policy = { process: contextOf("process"), file: contextOf("file") };
  for (const context of [policy.process, policy.file]) {
    await requireKnown(labelAt(context, context.level), selinuxfs, path);
  }
  return policy;
}

/** Where its file system is mounted; read-only, as containers have it, it counts as none (libselinux). */
async function requireSelinux({ mountInfo, ownLabel }: SelinuxPlaces): Promise<string> {
  const mounts = parseMountInfo(await readFile(mountInfo, "utf8"));
  const path = mounts.findLast(({ type }) => type === "selinuxfs")?.mountPoint;
  const obstacle =
    path === undefined
      ? "selinuxfs is not mounted"
      : (mountFlagsOf(path) & MS_RDONLY) !== 0n
        ? `${path} is mounted read-only`
        : (await isWithoutPolicy(ownLabel))
          ? "no policy is loaded"
          : undefined;
  if (path === undefined || obstacle !== undefined) {
    throw new FailedPreconditionError(
      `${wanted}: selinux is not available, ${obstacle}; want false, or a host with SELinux`,
    );
  }
  return path;
}

/** Until a policy is loaded everything is `kernel`. */
async function isWithoutPolicy(ownLabel: string): Promise<boolean> {
  const label = await readFile(ownLabel, "utf8").catch(() => "");
  return ["", "kernel"].includes(label.replace(/[\0\n]+$/, ""));
}

async function contextsPath({ config, policies, contexts }: SelinuxPlaces): Promise<string> {
  try {
    await (await open(contexts)).close();
    return contexts;
  } catch (error) {
    if (codeOf(error) !== "ENOENT") {
      throw error;
    }
  }
  const type = assignments(await readBounded(config)).get("SELINUXTYPE") ?? defaultPolicyType;
  if (!/^[\w-][\w.-]*$/.test(type)) {
    throw new InvalidArgumentError(
      `Cannot use SELINUXTYPE of ${config}: it is ${JSON.stringify(type.slice(0, 200))}, want the name of a policy`,
    );
  }
  return join(policies, type, "contexts/lxc_contexts");
}

/** Asks the kernel: a policy's files may name what is not built into it. */
async function requireKnown(label: string, selinuxfs: string, path: string): Promise<void> {
  try {
    await writeFile(join(selinuxfs, "context"), label);
  } catch (cause) {
    // Who may not ask is told nothing either way.
    if (codeOf(cause) === "EINVAL") {
      throw new FailedPreconditionError(
        `${wanted}: the policy that is loaded does not know ${JSON.stringify(label)} of ${path}, want a policy that does`,
        { cause },
      );
    }
  }
}

/** Lines of `NAME = VALUE`, the value in quotation marks or not; the last one counts. */
function assignments(text: string): Map<string, string> {
  const lines = text.matchAll(/^[ \t]*([^#;=\s]+)[ \t]*=[ \t]*(.*?)[ \t]*$/gm);
  return new Map([...lines].map(([, name = "", value = ""]) => [name, value.replace(/^"(.*)"$/, "$1")]));
}

async function readBounded(path: string): Promise<string> {
  try {
    await using file = await open(path);
    const { bytesRead, buffer } = await file.read(Buffer.alloc(maxFileBytes + 1), 0, maxFileBytes + 1, 0);
    if (bytesRead > maxFileBytes) {
      throw new InvalidArgumentError(
        `Cannot read ${path}: it is too long, want at most ${maxFileBytes} bytes`,
      );
    }
    return buffer.toString("utf8", 0, bytesRead);
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") {
      throw new NotFoundError(`${wanted}: there is no ${path}, want a policy that knows containers`, {
        cause,
      });
    }
    throw cause;
  }
}
