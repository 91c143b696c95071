import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { FailedPreconditionError, ServiceError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import type { KeyTexts } from "../cache/key-texts.ts";
import type { HostAndPort } from "../config/tcp-address.ts";
import { allKeys, lookedUpKey } from "./cache-keys.ts";
import { cpuProfile, heapSnapshot } from "./profiles.ts";

/** A profile takes so long if nobody says otherwise, and at most. */
const defaultProfileSeconds = 10;
const maxProfileSeconds = 300;

/** What the program is at. */
export type Phase = "starting" | "serving" | "stopping";

export interface DebugParts {
  /** Undefined: nobody may ask. */
  readonly address: HostAndPort | undefined;
  phase(): Phase;
  /** Figures in the text format of Prometheus. */
  metrics(): string;
  readonly keyTexts: KeyTexts;
  readonly log: Logger;
}

type Answer = (
  parts: DebugParts,
  url: URL,
  response: ServerResponse,
  request: { readonly signal: AbortSignal; readonly accept: string | undefined },
) => Promise<void> | void;

const answers: Readonly<
  Record<string, { readonly help: string; readonly isLocal: boolean; readonly answer: Answer }>
> = {
  "/healthz": {
    help: "200 while calls are served, 503 before and after",
    isLocal: false,
    answer: ({ phase }, _url, response) =>
      reply(response, phase() === "serving" ? 200 : 503, `${phase() === "serving" ? "ok" : phase()}\n`),
  },
  "/metrics": {
    help: "figures for Prometheus",
    isLocal: false,
    answer: ({ metrics }, _url, response) =>
      reply(response, 200, metrics(), "text/plain; version=0.0.4; charset=utf-8"),
  },
  "/debug/heap": {
    help: "the heap, for Chrome's developer tools; asked from this machine only, since all that builds say is in it",
    isLocal: true,
    answer: async (_parts, _url, response) => {
      response.writeHead(200, attachment("worker.heapsnapshot"));
      await pipeline(heapSnapshot(), response);
    },
  },
  "/debug/cpu": {
    help: `a processor profile of ?seconds=${defaultProfileSeconds}; asked from this machine only`,
    isLocal: true,
    answer: async (_parts, url, response, { signal }) => {
      const profile = await cpuProfile(profileSeconds(url), signal);
      response.writeHead(200, attachment("worker.cpuprofile")).end(profile);
    },
  },
  "/debug/cache/all": {
    help: "what cache keys are made of, if started with --save-cache-debug; asked from this machine only",
    isLocal: true,
    answer: ({ keyTexts }, _url, response, { accept }) => {
      const { body, type } = allKeys(keyTexts, accept);
      reply(response, 200, body, type);
    },
  },
  "/debug/cache/lookup": {
    help: "the same of the key ?digest=sha256:..., and of those that it is made of",
    isLocal: true,
    answer: ({ keyTexts }, url, response, { accept }) => {
      const { body, type } = lookedUpKey(keyTexts, url, accept);
      reply(response, 200, body, type);
    },
  },
};

/**
 * Answers operators over HTTP: figures, health and profiles. Disposing breaks off what is being answered.
 *
 * @throws {FailedPreconditionError} if the address cannot be listened on.
 */
export async function serveDebug(parts: DebugParts): Promise<AsyncDisposable> {
  const { address, log } = parts;
  if (address === undefined) {
    return { [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const server = createServer((request, response) => void handle(parts, request, response));
  const where = `${address.host}:${address.port}`;
  server.listen({ port: address.port, ...(address.host !== "" && { host: address.host }) });
  try {
    await once(server, "listening");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(
      `Cannot listen on --debugaddr ${where}: ${why}, want an address of this machine that is free`,
      { cause },
    );
  }
  log.info({ address: where, paths: Object.keys(answers) }, "answering operators");
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function handle(parts: DebugParts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  try {
    await answer(parts, request, response, gone.signal);
  } catch (error) {
    if (response.headersSent || gone.signal.aborted) {
      response.destroy();
      return;
    }
    const isOurs = error instanceof ServiceError;
    if (!isOurs) {
      parts.log.error({ err: error, url: request.url }, "operator cannot be answered");
    }
    reply(response, isOurs ? statusOf(error) : 500, `${isOurs ? error.message : "internal error"}\n`);
  }
}

async function answer(
  parts: DebugParts,
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const url = new URL(request.url ?? "/", "http://debug");
  const found = Object.hasOwn(answers, url.pathname) ? answers[url.pathname] : undefined;
  if (found === undefined) {
    const lines = Object.entries(answers).map(([path, { help }]) => `${path}  ${help}\n`);
    reply(response, url.pathname === "/" ? 200 : 404, lines.join(""));
  } else if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    reply(response, 405, "want GET\n");
  } else if (found.isLocal && !isLoopback(request.socket.remoteAddress)) {
    reply(response, 403, "Cannot answer this to another machine: want to be asked from this one\n");
  } else {
    await found.answer(parts, url, response, { signal, accept: request.headers.accept });
  }
}

function statusOf({ reason }: ServiceError): number {
  return { INVALID_ARGUMENT: 400, NOT_FOUND: 404 }[String(reason)] ?? 409;
}

function profileSeconds(url: URL): number {
  const text = url.searchParams.get("seconds") ?? String(defaultProfileSeconds);
  const seconds = Number(text);
  if (!/^\d+$/.test(text) || seconds < 1 || seconds > maxProfileSeconds) {
    throw new FailedPreconditionError(
      `Cannot take a profile: seconds is ${JSON.stringify(text.slice(0, 50))}, want 1 to ${maxProfileSeconds}`,
    );
  }
  return seconds;
}

function isLoopback(address = ""): boolean {
  return /^(::ffff:)?127\./.test(address) || address === "::1";
}

function attachment(name: string): Record<string, string> {
  return { "content-type": "application/json", "content-disposition": `attachment; filename="${name}"` };
}

function reply(
  response: ServerResponse,
  status: number,
  text: string,
  type = "text/plain; charset=utf-8",
): void {
  response.writeHead(status, { "content-type": type }).end(text);
}
