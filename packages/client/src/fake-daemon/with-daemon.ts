import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BuildKitClient } from "../client.ts";
import { type FakeBuild, type FakeDaemonOptions, startFakeDaemon } from "./fake-daemon.ts";

/** For tests of this package: a client, and a directory for whatever the test needs. */
export interface Place {
  readonly client: BuildKitClient;
  readonly directory: string;
}

/** A client of a daemon that does as `options` say, both gone afterwards. */
export async function withDaemon(
  options: FakeDaemonOptions,
  use: (place: Place) => Promise<void>,
): Promise<void> {
  await using dir = await mkdtempDisposable(join(tmpdir(), "client-"));
  const socketPath = join(dir.path, "d.sock");
  await using _daemon = await startFakeDaemon(socketPath, options);
  await using client = new BuildKitClient(`unix://${socketPath}`);
  await use({ client, directory: dir.path });
}

/** All that `iterable` gives. */
export async function collect<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const values: T[] = [];
  for await (const value of iterable) {
    values.push(value);
  }
  return values;
}

export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    } else {
      signal.addEventListener("abort", () => resolve(), { once: true });
    }
  });
}

/** A build that goes on until the client takes it back, or returns a failure. */
export async function endless({ signal, returned }: FakeBuild): Promise<Record<string, string>> {
  const failed = returned.then(({ error }) => (error === undefined ? aborted(signal) : undefined));
  await Promise.race([aborted(signal), failed]);
  return {};
}
