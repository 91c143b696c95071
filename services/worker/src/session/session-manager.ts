import { InvalidArgumentError, NotFoundError, UnavailableError } from "@oci-worker/errdefs";
import { duplexChannel } from "@oci-worker/grpc/channel";
import { openTunnel } from "@oci-worker/grpc/tunnel";
import type { Logger } from "pino";
import { AwaitedMap } from "../awaited-map.ts";
import { checkHealth } from "./health-check.ts";
import type { Session, SessionHello } from "./session.ts";

/** So many ids of ended sessions are remembered, to fail at once where waiting would be in vain. */
const endedRemembered = 1000;

/**
 * The clients that are attached, by session id.
 *
 * Every one has called Control.Session; the messages of that call are a byte stream, on which the client is a gRPC
 * server and we are its client.
 */
export class SessionManager {
  readonly #log: Logger;
  readonly #sessions = new AwaitedMap<Session>();
  readonly #ended = new Set<string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * Attaches a client for as long as its call lasts.
   *
   * @param incoming the bytes that the client sends.
   * @param signal aborted when the call ends.
   * @returns the bytes for the client; it ends when the session does.
   * @throws {InvalidArgumentError} if the id is missing or taken by a session that is still attached.
   */
  async *attach(
    hello: SessionHello,
    incoming: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void> {
    if (hello.id === "") {
      throw new InvalidArgumentError(
        "Cannot attach session: it has no id, want header x-docker-expose-session-uuid",
      );
    }
    if (this.#sessions.has(hello.id)) {
      throw new InvalidArgumentError(
        `Cannot attach session ${hello.id}: one with this id is attached already`,
      );
    }
    const { duplex, outgoing } = openTunnel(incoming);
    const ended = new AbortController();
    using channel = duplexChannel(duplex, `session ${hello.id}`);
    const methods = new Set(hello.methods.map((method) => method.toLowerCase()));
    const session: Session = {
      ...hello,
      channel,
      attachedAt: new Date(),
      references: new Set(),
      signal: AbortSignal.any([signal, ended.signal]),
      supports: (method) => methods.has(method.toLowerCase()),
    };
    this.#admit(session);
    // A client that hangs up before anything is asked of it has nobody who reads, and so finds, the end of its bytes.
    const hangUp = () => void duplex.destroy();
    signal.addEventListener("abort", hangUp, { once: true });
    void this.#watchHealth(session, () => duplex.destroy());
    try {
      yield* outgoing;
    } finally {
      signal.removeEventListener("abort", hangUp);
      this.#dismiss(session);
      ended.abort(new UnavailableError(`session ${session.id} has ended`));
      duplex.destroy();
    }
  }

  /**
   * The session `id`, waited for if it has not come yet.
   *
   * @throws {NotFoundError} if it has ended, or does not come within `patienceMs`.
   */
  async get(id: string, patienceMs: number, signal: AbortSignal): Promise<Session> {
    // A client that attaches one session to several builds tells them apart by a prefix.
    const wanted = id.slice(id.lastIndexOf(":") + 1);
    const session = await this.#sessions.wait(wanted, this.#ended.has(wanted) ? 0 : patienceMs, signal);
    if (session === undefined) {
      throw new NotFoundError(`no active session for ${wanted}: not found`);
    }
    return session;
  }

  /** Notes that builds of these sessions use an image: their clients may be asked for its credentials later on. */
  noteReference(ids: readonly string[], reference: string): void {
    for (const id of ids) {
      this.#sessions.get(id)?.references.add(reference);
    }
  }

  /** The sessions that are attached now, the latest first. */
  live(): Session[] {
    return [...this.#sessions.values()].reverse();
  }

  #admit(session: Session): void {
    this.#ended.delete(session.id);
    this.#sessions.set(session.id, session);
    this.#log.debug({ sessionID: session.id, methods: session.methods }, "session attached");
  }

  #dismiss(session: Session): void {
    this.#sessions.delete(session.id);
    this.#ended.add(session.id);
    const [oldest] = this.#ended;
    if (this.#ended.size > endedRemembered && oldest !== undefined) {
      this.#ended.delete(oldest);
    }
    this.#log.debug({ sessionID: session.id }, "session ended");
  }

  async #watchHealth(session: Session, end: () => void): Promise<void> {
    const failure = await checkHealth(session);
    if (failure !== undefined) {
      this.#log.warn({ sessionID: session.id, err: failure }, "session does not answer, ended");
      end();
    }
  }
}
