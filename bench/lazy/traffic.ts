import { setTimeout as pause } from "node:timers/promises";
import type { RegistryPeer } from "../../e2e/peers/registry.ts";

/** What was asked of a registry about blobs. */
export interface Traffic {
  readonly requests: number;
  readonly bytes: number;
}

const pollMs = 5;
let marks = 0;

/**
 * Watches a registry by its own log, which has a line for each response that has ended.
 *
 * @returns a function that tells what was asked about the blobs `digests` since the last time, or the beginning.
 */
export async function watchTraffic(
  registry: RegistryPeer,
  digests: readonly string[],
): Promise<() => Promise<Traffic>> {
  let seen = await logLength(registry);
  return async () => {
    const end = await logLength(registry);
    const lines = registry.log.slice(seen, end);
    seen = end;
    const responses = lines.flatMap((line) => {
      const uri = /\bhttp\.request\.uri="?([^" ]+)/.exec(line)?.[1] ?? "";
      const isAbout = line.includes('"response completed"') && digests.some((each) => uri.endsWith(each));
      return isAbout ? [Number(/\bhttp\.response\.written=(\d+)/.exec(line)?.[1] ?? 0)] : [];
    });
    return { requests: responses.length, bytes: responses.reduce((sum, each) => sum + each, 0) };
  };
}

/** How long the log is once everything that has happened until now is in it: a request of ours comes last. */
async function logLength({ host, log }: RegistryPeer): Promise<number> {
  marks += 1;
  const mark = `/v2/?mark=${process.pid}-${marks}`;
  await (await fetch(`http://${host}${mark}`)).arrayBuffer();
  for (;;) {
    const at = log.findIndex((line) => line.includes(mark) && line.includes('"response completed"'));
    if (at >= 0) {
      return at + 1;
    }
    await pause(pollMs);
  }
}
