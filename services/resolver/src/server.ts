import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { SourceService } from "@oci-worker/api/ociworker/source";
import { refuseOtherUsers } from "@oci-worker/daemon/peer";
import type { PassedSocket } from "@oci-worker/daemon/service-manager";
import { unixChannel } from "@oci-worker/grpc/channel";
import { HealthService } from "@oci-worker/grpc/health";
import { logCalls } from "@oci-worker/grpc/log-calls";
import { logConnections } from "@oci-worker/grpc/log-connections";
import { implement } from "@oci-worker/grpc/router";
import { serve } from "@oci-worker/grpc/serve";
import { HttpClient } from "@oci-worker/registry/http";
import type { Logger } from "pino";
import { Authorizer } from "./authorize.ts";
import type { Config } from "./config.ts";
import { openKeychains } from "./credentials/open.ts";
import type { SessionAuth } from "./credentials/session-auth.ts";
import { Explainer } from "./explain.ts";
import { openHosts } from "./hosts/open.ts";
import { Ledger } from "./ledger.ts";
import { Resolver } from "./resolve.ts";
import { sessionAuthClient } from "./rpc/session-auth.ts";
import { sourceService } from "./rpc/source.ts";
import { TokenCache } from "./token/token-cache.ts";

/** Whoever may connect gets everybody's credentials. */
const socketMode = 0o600;

/** Others may pass through the directory of the sockets and not look around. */
const socketDirectoryMode = 0o711;

/** How long a call waits for a worker that is being restarted. */
const workerPatienceMs = 500;

/**
 * Serves sources and credentials, and its health, on the socket of `config`. Disposing drains: health says so, calls
 * in flight end, new ones are refused.
 *
 * @param sockets that somebody has made for us; if there are any, they are served in place of that one.
 * @throws {FailedPreconditionError} if another process serves that socket.
 */
export async function serveResolver(
  config: Config,
  sockets: readonly PassedSocket[],
  log: Logger,
): Promise<AsyncDisposable> {
  await using parts = new AsyncDisposableStack();
  const http = parts.use(new HttpClient());
  const sessions = openSessions(config, parts);
  const hosts = openHosts(config, log);
  const resolver = new Resolver({
    hosts,
    log,
    ...(sessions && { liveSessions: liveSessionsOf(sessions) }),
  });
  const ledger = new Ledger();
  const authorizer = new Authorizer({
    hosts,
    keychains: openKeychains(config, sessions, { http }, log),
    tokens: new TokenCache(config.tokenTimeoutMs),
    ledger,
    log,
  });

  const sources = sourceService({ resolver, authorizer, explainer: new Explainer(hosts, ledger) });
  if (sockets.length === 0) {
    await mkdir(dirname(config.address), { recursive: true, mode: socketDirectoryMode });
  }
  const health = new HealthService([SourceService.typeName]);
  parts.use(
    await serve({
      implementations: [implement(SourceService, sources), health.implementation],
      observe: logCalls(log),
      observeConnection: logConnections(log),
      addresses: sockets.length > 0 ? sockets : [{ path: config.address, mode: socketMode }],
      drainTimeoutMs: config.drainTimeoutMs,
      refuse: refuseOtherUsers,
    }),
  );
  parts.defer(() => health.stop());
  const owned = parts.move();
  return { [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function openSessions({ sessionAddress }: Config, parts: AsyncDisposableStack): SessionAuth | undefined {
  if (sessionAddress === undefined) {
    return undefined;
  }
  return sessionAuthClient(parts.use(unixChannel(sessionAddress, { patienceMs: workerPatienceMs })));
}

function liveSessionsOf(sessions: SessionAuth) {
  return async (sessionIDs: readonly string[], signal: AbortSignal) => {
    const live = await sessions.liveSessions({ sessionIDs }, signal);
    return new Set(live.map(({ id }) => id));
  };
}
