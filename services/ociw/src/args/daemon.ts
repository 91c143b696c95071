import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ClientTls } from "@oci-worker/client";
import type { FlagSpecs, ParsedArgs } from "./flags.ts";
import { UsageError } from "./usage-error.ts";

/** Where oci-worker listens unless it is told otherwise. */
const defaultAddress = "unix:///run/oci-worker/worker.sock";

/** Flags that say where the daemon is and how to know it, in the words of buildctl. */
export const daemonFlags = {
  addr: {
    value: "ADDRESS",
    help: `address of the daemon, unix://PATH or tcp://HOST:PORT (default $BUILDKIT_HOST, or ${defaultAddress})`,
  },
  tlscacert: { value: "FILE", help: "authorities (PEM) that sign the daemon's certificate" },
  tlscert: { value: "FILE", help: "our own certificate (PEM), for a daemon that asks for one" },
  tlskey: { value: "FILE", help: "its key (PEM)" },
  tlsdir: {
    value: "DIRECTORY",
    help: "all three, as ca.pem, cert.pem and key.pem, or ca.crt, tls.crt and tls.key",
  },
  tlsservername: {
    value: "NAME",
    help: "name that the daemon's certificate is for (default the host in its address)",
  },
} as const satisfies FlagSpecs;

/** Each file that a directory may have, by its names: those of buildctl, and those of a secret of Kubernetes. */
const namesInDirectory = {
  ca: ["ca.pem", "ca.crt"],
  cert: ["cert.pem", "tls.crt"],
  key: ["key.pem", "tls.key"],
};

/** The daemon's address: the flag, else the environment, else the default. */
export function addressOf(flags: ParsedArgs["flags"], environment: NodeJS.ProcessEnv): string {
  return flags["addr"]?.[0] ?? (environment["BUILDKIT_HOST"] || defaultAddress);
}

/**
 * How the daemon proves who it is, and we do; undefined if there is to be no TLS.
 *
 * @throws {UsageError} if the flags make no sense together, or a file cannot be read.
 */
export async function tlsOf(flags: ParsedArgs["flags"]): Promise<ClientTls | undefined> {
  const [directory, serverName] = [flags["tlsdir"]?.[0], flags["tlsservername"]?.[0]];
  const [ca, cert, key] = [flags["tlscacert"]?.[0], flags["tlscert"]?.[0], flags["tlskey"]?.[0]];
  const isSingle = (ca ?? cert ?? key) !== undefined;
  if (directory !== undefined && isSingle) {
    throw new UsageError("cannot specify tlsdir and tlscacert/tlscert/tlskey at the same time");
  }
  if ((cert === undefined) !== (key === undefined)) {
    throw new UsageError("Cannot use --tlscert and --tlskey one without the other: want both, or neither");
  }
  if (serverName !== undefined && directory === undefined && !isSingle) {
    throw new UsageError(
      "Cannot use --tlsservername without TLS: want --tlscacert FILE or --tlsdir DIRECTORY, too",
    );
  }
  const name = serverName === undefined ? {} : { serverName };
  if (directory !== undefined) {
    const read = (names: readonly string[]) => firstIn(directory, names);
    const { ca: caNames, cert: certNames, key: keyNames } = namesInDirectory;
    return { ca: await read(caNames), cert: await read(certNames), key: await read(keyNames), ...name };
  }
  return isSingle
    ? {
        ...(ca !== undefined && { ca: await pem("--tlscacert", ca) }),
        ...(cert !== undefined && { cert: await pem("--tlscert", cert) }),
        ...(key !== undefined && { key: await pem("--tlskey", key) }),
        ...name,
      }
    : undefined;
}

/** What is in the first of the files by these names that is there. */
async function firstIn(directory: string, names: readonly string[]): Promise<string> {
  for (const name of names) {
    const text = await readFile(join(directory, name), "utf8").catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === "ENOENT") {
        return undefined;
      }
      throw unusable("--tlsdir", cause);
    });
    if (text !== undefined) {
      return requirePem("--tlsdir", join(directory, name), text);
    }
  }
  throw new UsageError(`Cannot use --tlsdir ${directory}: it does not contain ${names.join(" or ")}`);
}

async function pem(flag: string, path: string): Promise<string> {
  try {
    return requirePem(flag, path, await readFile(path, "utf8"));
  } catch (cause) {
    throw cause instanceof UsageError ? cause : unusable(flag, cause);
  }
}

function requirePem(flag: string, path: string, text: string): string {
  if (!text.includes("-----BEGIN ")) {
    throw new UsageError(`Cannot use ${flag}: there is no PEM in ${path}, want a PEM file`);
  }
  return text;
}

function unusable(flag: string, cause: unknown): UsageError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new UsageError(`Cannot use ${flag}: ${why}, want a PEM file`, { cause });
}
