import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NotFoundError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import type { Logger } from "pino";
import { stringify, type TomlTable } from "smol-toml";
import type { Config } from "../config/config.ts";
import { findProgram } from "./programs.ts";
import { superviseChild } from "./supervisor.ts";

/** A child that has just been started is waited for so long to answer. */
const patienceMs = 30_000;

/** Where a service is to be found, and its end if it is a child of ours. */
interface Peer extends AsyncDisposable {
  readonly address: string;
}

/** The services beside us, and their end as far as they are children of ours. */
export interface Peers extends AsyncDisposable {
  readonly snapshotterAddress: string;
  readonly resolverAddress: string;
}

/**
 * Finds the services that the operator has named, and starts those that are not: both at the same time.
 *
 * @param registry the table `[registry]` of our config file, which the resolver is given.
 * @throws {NotFoundError} if a program that is to be started is not there.
 * @throws {UnavailableError} if a child does not come to serve.
 */
export async function openPeers(config: Config, registry: TomlTable, log: Logger): Promise<Peers> {
  await using undo = new AsyncDisposableStack();
  const opened = [snapshotterPeer(config, log), resolverPeer(config, registry, log)] as const;
  // Both are waited for, so that one which has started is stopped again if the other has failed.
  for (const result of await Promise.allSettled(opened)) {
    if (result.status === "fulfilled") {
      undo.use(result.value);
    }
  }
  const [snapshotter, resolver] = await Promise.all(opened);
  const owned = undo.move();
  return {
    snapshotterAddress: snapshotter.address,
    resolverAddress: resolver.address,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/**
 * Makes sure that a snapshotter that the operator has named is there, before anything is made that would be left behind.
 *
 * @throws {NotFoundError} in the words of upstream, whose users forget that this path has no scheme.
 */
export async function requireNamedSnapshotter({
  proxySnapshotterPath: path,
}: Pick<Config, "proxySnapshotterPath">): Promise<void> {
  if (path === undefined) {
    return;
  }
  try {
    if (!(await stat(path)).isSocket()) {
      throw new Error("it is no socket");
    }
  } catch (cause) {
    throw new NotFoundError(
      `snapshotter doesn't exist on ${JSON.stringify(path)} (Do not include 'unix://' prefix): ${cause instanceof Error ? cause.message : cause}, want the socket of one that runs`,
      { cause },
    );
  }
}

/** The snapshotter that the operator has named, or else one of our own with its root and socket in ours. */
async function snapshotterPeer(config: Config, log: Logger): Promise<Peer> {
  const { proxySnapshotterPath } = config;
  if (proxySnapshotterPath !== undefined) {
    return named(proxySnapshotterPath);
  }
  const address = join(config.root, "snapshotter.sock");
  const args = [
    ...["--root", join(config.root, "snapshotter")],
    // It is asked about each lazy layer, no sooner: both of them start at the same time.
    ...["--resolver-address", resolverSocket(config)],
    ...["--snapshotter", config.snapshotter],
    // It is ours alone: we may also change our name for it.
    ...["--client", config.snapshotter],
    ...["--log-level", config.logLevel],
    // What the solver's cache says is there is used without another look: a power cut must leave no empty files in it.
    "--sync-on-commit",
  ];
  // Its own config file stays in force for all that is not said here.
  const environment = variables("SNAPSHOTTER", { ...config.lazySettings, logFormat: config.logFormat });
  return await startChild({
    name: "snapshotter",
    program: "oci-snapshotter",
    lockPath: join(config.root, "snapshotter.lock"),
    address,
    args,
    environment,
    log,
  });
}

/** The variables by which a service takes settings. */
function variables(
  service: string,
  settings: Readonly<Record<string, string | number | boolean>>,
): NodeJS.ProcessEnv {
  const nameOf = (key: string) => key.replace(/[A-Z]/g, "_$&").toUpperCase();
  const entries = Object.entries(settings);
  return Object.fromEntries(
    entries.map(([key, value]) => [`OCI_WORKER_${service}_${nameOf(key)}`, String(value)]),
  );
}

/** Where the resolver is or will be. */
function resolverSocket({ resolverAddress, root }: Config): string {
  return resolverAddress ?? join(root, "resolver.sock");
}

/** The resolver that the operator has named, or else one of our own that is told of the registries in our file. */
async function resolverPeer(config: Config, registry: TomlTable, log: Logger): Promise<Peer> {
  if (config.resolverAddress !== undefined) {
    return named(config.resolverAddress);
  }
  const address = resolverSocket(config);
  const configFile = join(config.root, "resolver.toml");
  await writeFile(configFile, stringify({ registry }), { mode: 0o600 });
  const args = [
    ...["--session-address", config.sessionSocketPath],
    ...["--config", configFile],
    ...["--log-level", config.logLevel],
  ];
  const environment = variables("RESOLVER", { logFormat: config.logFormat });
  return await startChild({
    name: "resolver",
    program: "oci-resolver",
    lockPath: join(config.root, "resolver.lock"),
    address,
    args,
    environment,
    log,
  });
}

function named(address: string): Peer {
  return { address, [Symbol.asyncDispose]: () => Promise.resolve() };
}

interface ChildToStart {
  readonly name: string;
  readonly program: string;
  readonly lockPath: string;
  readonly address: string;
  readonly args: readonly string[];
  readonly environment?: NodeJS.ProcessEnv;
  readonly log: Logger;
}

async function startChild({ address, args, program, ...child }: ChildToStart): Promise<Peer> {
  await using undo = new AsyncDisposableStack();
  const channel = undo.use(unixChannel(address, { patienceMs }));
  undo.use(
    await superviseChild({
      ...child,
      program: await findProgram(program, process.env),
      args: ["--address", address, ...args],
      channel,
    }),
  );
  const owned = undo.move();
  return { address, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
