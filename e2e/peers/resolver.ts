import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Client, createClient } from "@connectrpc/connect";
import { SourceService } from "@oci-worker/api/ociworker/source";
import { parentVariable } from "@oci-worker/daemon/run";
import { unixChannel } from "@oci-worker/grpc/channel";
import { SourceClient } from "@oci-worker/sources/source-client";

export interface ResolverOptions {
  readonly sessionAddress?: string;
  /** Text of its config file. */
  readonly config?: string;
  /** Beside that of this process. */
  readonly environment?: NodeJS.ProcessEnv;
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
  const flags = ["--address", address, "--config", configFile, "--log-level", "trace", ...session];
  const environment = {
    ...process.env,
    DOCKER_CONFIG: directory.path,
    // It ends with this process, however that ends.
    [parentVariable]: String(process.pid),
    ...options.environment,
  };
  const child = spawn(program, flags, { stdio: ["ignore", "pipe", "pipe"], env: environment });
  undo.defer(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      await exited;
    }
  });
  const log: string[] = [];
  const serving = Promise.withResolvers<void>();
  child.on("error", serving.reject);
  child.on("exit", (code) => {
    serving.reject(new Error(`oci-resolver ended with code ${code}:\n${log.join("\n")}`));
  });
  for (const stream of [child.stdout, child.stderr]) {
    createInterface(stream).on("line", (line) => {
      log.push(line);
      if (line.includes('"msg":"serving"')) {
        serving.resolve();
      }
    });
  }
  await serving.promise;
  const channel = undo.use(unixChannel(address));
  const owned = undo.move();
  return {
    client: createClient(SourceService, channel),
    sources: new SourceClient(channel),
    address,
    log,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
