import { readFile } from "node:fs/promises";
import { digestOf } from "@oci-worker/oci/digest";
import { type ResolverPeer, startResolver } from "../../e2e/peers/resolver.ts";
import { startSessionService } from "../../e2e/peers/session-service.ts";
import { startTokenServer } from "../../e2e/peers/token-server.ts";
import { measure } from "../load.ts";
import type { Comparison, Report } from "../report.ts";

const warmUpMs = 2000;
const durationMs = 4000;

/** Callers in a row ask at most so often: many mounts at a time, and not as many as a core can answer. */
const pauseMs = 100;

/** What the resolver may take; there is nothing to compare it with. */
const limits = { medianMs: 1, cpuMicroseconds: 250, tokenRequests: 1, growth: 1.15 } as const;

/** V8 grows its heap for a while before it stays as it is. */
const firstResolutions = 50_000;
const resolutions = 100_000;
const callers = 64;
const layers = 12;

/** `oci-resolver` by itself: how fast it says what labels stand for, how often it asks for a token, how it grows. */
export async function resolver(): Promise<Report> {
  await using sessions = await startSessionService({ one: { username: "user", secret: "password" } });
  await using peer = await startResolver({ sessionAddress: sessions.address, logLevel: "info" });
  const comparisons: Comparison[] = [];
  for (const [concurrency, pace, what] of [
    [1, undefined, "1 caller"],
    [callers, pauseMs, `${callers} callers, each ten times a second`],
  ] as const) {
    const call = (caller: number) => resolve(peer, caller);
    const load = { concurrency, pid: peer.process.pid, ...(pace && { pauseMs: pace }) };
    await measure(call, { ...load, durationMs: warmUpMs });
    const { medianMicroseconds } = await measure(call, { ...load, durationMs });
    comparisons.push(
      atMost(`ResolveSources, median, ${what}`, "ms", medianMicroseconds / 1000, limits.medianMs),
    );
  }
  comparisons.push(await costOfACall(peer));
  await resolveMany(peer, firstResolutions);
  const before = await residentMiB(peer.process.pid);
  await resolveMany(peer, resolutions);
  const after = await residentMiB(peer.process.pid);
  comparisons.push(
    atMost(
      `memory after ${resolutions.toLocaleString("en-US")} resolutions`,
      "MiB",
      after,
      before,
      limits.growth,
    ),
    atMost("requests for a token by 1000 callers", "", await tokenRequests(), limits.tokenRequests),
  );
  return {
    title: "Resolver",
    method: `\`oci-resolver\` over its unix socket, asked by our client for the sources of a layer of ${layers} by labels of BuildKit's, with a live session, first at the pace of mounts and then without a pause; then for the authorization of one repository by 1000 callers at a time. There is no peer: the second column is what it may be, for memory what it was after the first fifty thousand resolutions.`,
    peer: "limit",
    comparisons,
  };
}

/**
 * What one call takes of the resolver's CPU where callers do not pause. They wait for one another then, so that the
 * median only says how many there are; this is what decides how many mounts at a time it can answer.
 */
async function costOfACall(peer: ResolverPeer): Promise<Comparison> {
  const load = { concurrency: callers, pid: peer.process.pid, durationMs };
  const { cpuMicrosecondsPerCall } = await measure((caller) => resolve(peer, caller), load);
  const what = `CPU time of a ResolveSources, ${callers} callers without a pause`;
  return atMost(what, "us", cpuMicrosecondsPerCall, limits.cpuMicroseconds);
}

function atMost(what: string, unit: string, ours: number, limit: number, multiple = 1): Comparison {
  return { what, unit, ours, peers: limit, want: { atMost: multiple } };
}

/** The labels of one layer of one image, of which there are as many as there are numbers. */
function labelsOf(image: number): Record<string, string> {
  const prefix = "containerd.io/snapshot/remote/stargz";
  return {
    [`${prefix}.reference.x`]: `registry.example/team/app:${image}`,
    [`${prefix}.digest.x`]: layerDigests[0] ?? "",
    [`${prefix}.layers.x`]: layerDigests.join(","),
    [`${prefix}.session.0.x`]: "one",
  };
}

const layerDigests = Array.from({ length: layers }, (_, index) => digestOf(`layer ${index}`));

async function resolve({ client }: ResolverPeer, image: number): Promise<void> {
  const { sources } = await client.resolveSources({
    query: { case: "labels", value: { labels: labelsOf(image) } },
  });
  if (sources.length !== 1) {
    throw new Error(`The resolver has answered with ${sources.length} sources, want one`);
  }
}

/** Each of another image, so that what is remembered of each would add up. */
async function resolveMany(peer: ResolverPeer, count: number): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (next < count) {
        next += 1;
        await resolve(peer, next);
      }
    }),
  );
}

/** How often a token server is asked when a thousand callers want to read the same repository. */
async function tokenRequests(): Promise<number> {
  const user = { username: "user", secret: "password" };
  await using tokens = await startTokenServer({
    users: { user: { password: user.secret, repositories: ["team/app"] } },
  });
  await using sessions = await startSessionService({ one: user });
  await using peer = await startResolver({ sessionAddress: sessions.address, logLevel: "info" });
  const { sources } = await peer.client.resolveSources({
    query: { case: "reference", value: { reference: "127.0.0.1:1/team/app", sessionIds: ["one"] } },
  });
  const [{ handle = "", hosts = [] } = {}] = sources;
  const { realm, service } = tokens.access;
  const challenges = [`Bearer realm="${realm}",service="${service}",scope="repository:team/app:pull"`];
  const request = { handle, host: hosts[0]?.host ?? "", challenges };
  await Promise.all(Array.from({ length: 1000 }, () => peer.client.authorize(request)));
  return tokens.requests.length;
}

async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}
