import { type Agent, type IncomingMessage, request as requestHttp, type ServerResponse } from "node:http";
import { request as requestHttps } from "node:https";
import { pipeline } from "node:stream/promises";
import type { Egress } from "./egress.ts";
import type { RequestLog } from "./request-log.ts";
import type { Target } from "./target.ts";

/** What concerns one connection and not the message (RFC 9110, 7.6.1), and what the old forms of it are. */
const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Headers of an answer; as large as those that clients may send. */
export const maxHeaderBytes = 256 * 1024;

/**
 * Asks `target` what the client has asked, and gives the client its answer, as it comes and no faster than the client takes
 * it. What cannot be had is a 502 that says why.
 */
export async function forward(
  request: IncomingMessage,
  response: ServerResponse,
  target: Target,
  egress: Egress,
  log: RequestLog,
): Promise<void> {
  const record = log.begin(request.method ?? "GET", target.url);
  let answer: IncomingMessage;
  try {
    answer = await ask(request, response, target, egress);
  } catch (error) {
    if (!response.destroyed) {
      record.status = 502;
      refuse(response, record.status, reasonOf(error));
    }
    return;
  }
  const { statusCode = 502, statusMessage = "" } = answer;
  record.status = statusCode;
  response.sendDate = false;
  response.writeHead(statusCode, statusMessage, endToEnd(answer.rawHeaders));
  // A client that is shown a length must not take what came of it for all.
  await pipeline(answer, response).catch(() => response.destroy());
}

/** What Node adds for those who run it is none of the step's business. */
function reasonOf(error: unknown): string {
  const [reason = ""] = (error instanceof Error ? error.message : String(error)).split("; ");
  return reason;
}

/** Answers in the stead of a server, and hangs up. */
export function refuse(response: ServerResponse, status: number, why: string): void {
  if (!response.headersSent) {
    response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8", Connection: "close" });
    response.end(`${why}\n`);
  }
}

/** What may have been done already when an answer fails to come, and must not be done twice (RFC 9110, 9.2.2). */
const unrepeatable = new Set(["POST", "PATCH"]);

/**
 * The server's answer. One that has closed a connection of earlier requests is asked once more, by a new one; what could not
 * be said again goes by a new one from the start.
 */
async function ask(
  request: IncomingMessage,
  response: ServerResponse,
  target: Target,
  egress: Egress,
): Promise<IncomingMessage> {
  const isRepeatable = !(hasBody(request) || unrepeatable.has(request.method ?? ""));
  const abandon = new AbortController();
  response.once("close", () => abandon.abort());
  try {
    return await askOnce(request, target, egress.agentFor(target.scheme, isRepeatable), abandon.signal);
  } catch (error) {
    if (error instanceof StaleConnectionError) {
      return await askOnce(request, target, egress.agentFor(target.scheme, false), abandon.signal);
    }
    throw error;
  }
}

/** A connection was kept open for longer than its server liked. */
class StaleConnectionError extends Error {}

async function askOnce(
  request: IncomingMessage,
  target: Target,
  agent: Agent,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const { scheme, host, port, path } = target;
  const outgoing = (scheme === "https" ? requestHttps : requestHttp)({
    agent,
    protocol: `${scheme}:`,
    host,
    port,
    path,
    method: request.method,
    headers: headersFor(request, target),
    setHost: false,
    maxHeaderSize: maxHeaderBytes,
    signal,
  });
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  outgoing.once("response", resolve);
  outgoing.on("error", (error) =>
    reject(outgoing.reusedSocket ? new StaleConnectionError(error.message, { cause: error }) : error),
  );
  if (hasBody(request)) {
    // How it ends is told by the answer, which may also come before the end.
    pipeline(request, outgoing).catch(() => undefined);
  } else {
    outgoing.end();
  }
  return await promise;
}

/** The client's headers in their order, duplicates and all, as Node takes them: names and values by turns. */
function headersFor(request: IncomingMessage, { hostHeader }: Target): string[] {
  const headers = endToEnd(request.rawHeaders, ["host", "expect"]);
  return ["Host", hostHeader, ...headers, ...(isChunked(request) ? ["Transfer-Encoding", "chunked"] : [])];
}

function endToEnd(rawHeaders: readonly string[], more: readonly string[] = []): string[] {
  const pairs = rawHeaders.flatMap((name, index) =>
    index % 2 === 0 ? [[name, rawHeaders[index + 1] ?? ""] as const] : [],
  );
  const named = pairs.flatMap(([name, value]) =>
    name.toLowerCase() === "connection" ? value.split(",").map((option) => option.trim().toLowerCase()) : [],
  );
  const dropped = new Set([...hopByHop, ...named, ...more]);
  return pairs.filter(([name]) => !dropped.has(name.toLowerCase())).flat();
}

function hasBody(request: IncomingMessage): boolean {
  return request.headers["content-length"] !== undefined || isChunked(request);
}

function isChunked({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined;
}
