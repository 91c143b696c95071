import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Client, createClient } from "@connectrpc/connect";
import { SourceService } from "@oci-worker/api/ociworker/source";
import { unixChannel } from "@oci-worker/grpc/channel";
import { SourceClient } from "@oci-worker/sources/source-client";
import { type ProcessPeer, startProcess } from "./process.ts";

export interface ResolverOptions {
  readonly sessionAddress?: string;
  /** Text of its config file. */
  readonly config?: string;
  /** Beside that of this process. */
  readonly environment?: NodeJS.ProcessEnv;
  /** Absent: everything is logged. */
  readonly logLevel?: string;
  /** Socket to serve on; absent: one of its own. */
  readonly address?: string;
}

/** The program oci-resolver, as a process. Disposing ends it. */
export interface ResolverPeer extends AsyncDisposable {
  /** Its service as it is on the wire. */
  readonly client: Client<typeof SourceService>;
  /** Its service as the worker uses it. */
  readonly sources: SourceClient;
  readonly address: string;
  /** What it has written so far, on standard output and standard error. */
  readonly log: readonly string[];
  readonly process: ProcessPeer;
}

const program = join(import.meta.dirname, "../../services/resolver/bin/oci-resolver");

/** Starts a resolver and waits until it serves. It logs all that it can, and sees no docker config but its own. */
export async function startResolver(options: ResolverOptions = {}): Promise<ResolverPeer> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "resolver-")));
  const address = options.address ?? join(directory.path, "resolver.sock");
  const configFile = join(directory.path, "resolver.toml");
  await writeFile(configFile, options.config ?? "");
  const session = options.sessionAddress === undefined ? [] : ["--session-address", options.sessionAddress];
  const flags = [
    "--address",
    address,
    "--config",
    configFile,
    "--log-level",
    options.logLevel ?? "trace",
    ...session,
  ];
  const process = undo.use(
    await startProcess({
      program,
      args: flags,
      environment: { DOCKER_CONFIG: directory.path, ...options.environment },
      ready: /"msg":"serving"/,
    }),
  );
  const channel = undo.use(unixChannel(address));
  const owned = undo.move();
  return {
    client: createClient(SourceService, channel),
    sources: new SourceClient(channel),
    address,
    log: process.log,
    process,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
