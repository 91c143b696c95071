import { parseArgs } from "node:util";
import { InvalidArgumentError } from "@oci-worker/errdefs";

const defaultConfigFile = "/etc/oci-worker/snapshotter.toml";

export const usage = `Usage: oci-snapshotter [--root DIR] [--address SOCKET] [options]

Serves containerd's Snapshots API on a unix socket.

  --root DIR                 where metadata and snapshots are kept; one process and one client a root
  --address SOCKET           socket to serve on, with or without unix://
  --snapshotter NAME         auto, native, overlayfs, fuse-overlayfs or stargz
  --config FILE              settings; default ${defaultConfigFile}, if it is there
  --resolver-address SOCKET  the resolver, for stargz
  --log-level LEVEL          trace, debug, info, warn, error, fatal or silent
  --help                     print this
`;

export interface Flags {
  readonly help: boolean;
  readonly configFile: string;
  /** Whether the operator named the file, so that it has to be there. */
  readonly configFileNamed: boolean;
  /** What was set, under the keys of the config file, over which it takes precedence. */
  readonly settings: Readonly<Record<string, string>>;
}

/** @throws {InvalidArgumentError} for a flag that does not exist or lacks its value. */
export function parseFlags(args: readonly string[]): Flags {
  const values = parse(args);
  const settings = {
    root: values.root,
    address: values.address,
    snapshotter: values.snapshotter,
    resolverAddress: values["resolver-address"],
    logLevel: values["log-level"],
  };
  return {
    help: values.help ?? false,
    configFile: values.config ?? defaultConfigFile,
    configFileNamed: values.config !== undefined,
    settings: Object.fromEntries(
      Object.entries(settings).filter((pair): pair is [string, string] => pair[1] !== undefined),
    ),
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        root: { type: "string" },
        address: { type: "string" },
        snapshotter: { type: "string" },
        config: { type: "string" },
        "resolver-address": { type: "string" },
        "log-level": { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (cause) {
    throw new InvalidArgumentError(
      `Cannot read flags: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}
