import { readFileSync, statSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { fileState, isSettled } from "@oci-worker/daemon/file-state";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { ServerTls } from "@oci-worker/grpc/serve";
import type { Logger } from "pino";

/** Paths of PEM files, as the flags of the same names have them. */
export interface TlsPaths {
  readonly tlsCert: string;
  readonly tlsKey: string;
  /** Undefined asks clients for no certificate. */
  readonly tlsCa: string | undefined;
}

/**
 * A certificate that is read again when one of its files has changed, as whoever renews certificates does it: by writing,
 * by renaming, or by exchanging a directory as a whole.
 *
 * What cannot be used is told once, and the certificate that was there before stays in use: of two files that are written one
 * after the other the first does not go with the second for a moment.
 */
export class TlsFiles {
  readonly #paths: TlsPaths;
  readonly #log: Logger;
  #tls: ServerTls;
  /** Of all files, when they were read last; empty if they may change without that. */
  #state = "";
  #complaint = "";

  /** @throws {InvalidArgumentError} if there is no such certificate or key, or they do not go together. */
  constructor(paths: TlsPaths, log: Logger) {
    this.#paths = paths;
    this.#log = log;
    const stats = this.#stats();
    this.#tls = read(paths);
    this.#remember(stats);
  }

  /** What to use for the next connection: the same object for as long as nothing has changed. */
  readonly current = (): ServerTls => {
    try {
      const stats = this.#stats();
      if (stats.map(fileState).join() !== this.#state) {
        this.#take(read(this.#paths));
        this.#remember(stats);
        this.#complaint = "";
      }
    } catch (error) {
      this.#state = "";
      this.#complain(error instanceof Error ? error.message : String(error));
    }
    return this.#tls;
  };

  #take(tls: ServerTls): void {
    const { cert, key, ca } = this.#tls;
    if (tls.cert !== cert || tls.key !== key || tls.ca !== ca) {
      this.#tls = tls;
      this.#log.info({ certificate: this.#paths.tlsCert }, "certificate has changed, using the new one");
    }
  }

  #remember(stats: readonly Stats[]): void {
    this.#state = stats.every(isSettled) ? stats.map(fileState).join() : "";
  }

  #complain(reason: string): void {
    if (reason !== this.#complaint) {
      this.#complaint = reason;
      this.#log.warn({ reason }, "certificate has changed and cannot be used, going on with the one before");
    }
  }

  /** It takes some microseconds, and connections are rare. */
  #stats(): Stats[] {
    const { tlsCert, tlsKey, tlsCa } = this.#paths;
    const authorities = tlsCa === undefined ? [] : [statsOf("--tlscacert", tlsCa)];
    return [statsOf("--tlscert", tlsCert), statsOf("--tlskey", tlsKey), ...authorities];
  }
}

type Stats = ReturnType<typeof statsOf>;

function statsOf(flag: string, path: string) {
  return onFile(flag, () => statSync(path, { bigint: true }));
}

function read({ tlsCert, tlsKey, tlsCa }: TlsPaths): ServerTls {
  const [cert, key] = [pem("--tlscert", tlsCert), pem("--tlskey", tlsKey)];
  const tls = { cert, key, ...(tlsCa !== undefined && { ca: pem("--tlscacert", tlsCa) }) };
  try {
    createSecureContext(tls);
  } catch (cause) {
    throw new InvalidArgumentError(
      `Cannot use certificate ${tlsCert} with key ${tlsKey}: ${messageOf(cause)}, want PEM files that go together`,
      { cause },
    );
  }
  return tls;
}

function pem(flag: string, path: string): string {
  const text = onFile(flag, () => readFileSync(path, "utf8"));
  if (!text.includes("-----BEGIN ")) {
    throw new InvalidArgumentError(`Cannot use ${flag}: there is no PEM in ${path}, want a PEM file`);
  }
  return text;
}

/** What `work` gives, whose error is about the file of `flag` and names it. */
function onFile<T>(flag: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw new InvalidArgumentError(`Cannot use ${flag}: ${messageOf(cause)}, want a PEM file`, { cause });
  }
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
