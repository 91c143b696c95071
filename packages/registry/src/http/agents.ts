import { readFile, stat } from "node:fs/promises";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { isLoopback, type TlsSettings } from "../host.ts";

/** How long a connection that nobody uses is kept open. */
const idleConnectionTimeoutMs = 30_000;

/** Connections to one host that are kept open while nobody uses them. */
const maxIdleConnections = 8;

/** What an agent depends on beside the URL. */
interface Profile {
  readonly agent: HttpAgent | HttpsAgent;
  /** State of the TLS files that it was made from: when it differs, the agent is made again. */
  readonly fileState: string;
}

/**
 * Connections to keep alive: one agent for each way to connect.
 *
 * Proxies come from HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the environment, and never apply to this machine itself.
 */
export class Agents implements Disposable {
  readonly #proxies: NodeJS.ProcessEnv;
  readonly #profiles = new Map<string, Profile>();
  #systemAuthorities: readonly string[] | undefined;

  constructor(environment: NodeJS.ProcessEnv) {
    this.#proxies = environment;
  }

  /** @throws {FailedPreconditionError} if a TLS file cannot be used. */
  async agentFor(url: URL, tls: TlsSettings | undefined): Promise<HttpAgent | HttpsAgent> {
    const proxied = !isLoopback(url.host);
    const settings = url.protocol === "https:" ? (tls ?? {}) : undefined;
    const key = JSON.stringify([proxied, settings]);
    const fileState = settings === undefined ? "" : await stateOf(filesOf(settings));
    const known = this.#profiles.get(key);
    if (known !== undefined && known.fileState === fileState) {
      return known.agent;
    }
    const options = {
      keepAlive: true,
      maxFreeSockets: maxIdleConnections,
      timeout: idleConnectionTimeoutMs,
      ...(proxied && { proxyEnv: this.#proxies }),
    };
    const agent =
      settings === undefined
        ? new HttpAgent(options)
        : new HttpsAgent({
            ...options,
            secureContext: await this.#secureContext(settings),
            rejectUnauthorized: settings.insecureSkipVerify !== true,
          });
    // An agent that is replaced is left to its requests; its idle connections time out.
    this.#profiles.set(key, { agent, fileState });
    return agent;
  }

  /** Closes all connections, those in use too. */
  [Symbol.dispose](): void {
    for (const { agent } of this.#profiles.values()) {
      agent.destroy();
    }
    this.#profiles.clear();
  }

  async #secureContext({ caFiles = [], keyPairs = [] }: TlsSettings): Promise<SecureContext> {
    // Node trusts its own list alone. An operator who has added an authority to the machine's expects it to count.
    this.#systemAuthorities ??= [
      ...new Set([...getCACertificates("default"), ...getCACertificates("system")]),
    ];
    const own = await Promise.all(caFiles.map(readPem));
    const cert = await Promise.all(keyPairs.map(({ certFile }) => readPem(certFile)));
    const key = await Promise.all(keyPairs.map(({ keyFile }) => readPem(keyFile)));
    try {
      return createSecureContext({
        ca: [...this.#systemAuthorities, ...own],
        ...(cert.length > 0 && { cert, key }),
      });
    } catch (cause) {
      const files = [...caFiles, ...keyPairs.flatMap((pair) => [pair.certFile, pair.keyFile])];
      throw new FailedPreconditionError(
        `Cannot set up TLS from ${files.join(", ")}: they are not PEM certificates with the keys that fit them`,
        { cause },
      );
    }
  }
}

function filesOf({ caFiles = [], keyPairs = [] }: TlsSettings): string[] {
  return [...caFiles, ...keyPairs.flatMap(({ certFile, keyFile }) => [certFile, keyFile])];
}

async function stateOf(files: readonly string[]): Promise<string> {
  const states = await Promise.all(
    files.map(async (file) => {
      const { ino, mtimeNs, size } = await stat(file, { bigint: true }).catch(unusable(file));
      return `${ino}:${mtimeNs}:${size}`;
    }),
  );
  return states.join();
}

function readPem(file: string): Promise<string> {
  return readFile(file, "utf8").catch(unusable(file));
}

function unusable(file: string): (cause: unknown) => never {
  return (cause) => {
    const reason = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
    throw new FailedPreconditionError(`Cannot read TLS file ${file}: ${reason}`, { cause });
  };
}
