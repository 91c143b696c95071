import type { Client } from "@connectrpc/connect";
import type { Control } from "@oci-worker/api/buildkit/control";
import { HealthService } from "@oci-worker/grpc/health";
import type { Implementation } from "@oci-worker/grpc/router";
import { serveDuplex } from "@oci-worker/grpc/serve";
import { openTunnel } from "@oci-worker/grpc/tunnel";
import { newID } from "../new-id.ts";

export interface SessionOptions {
  /** What the daemon may ask of this client while it builds. */
  readonly services: readonly Implementation[];
  /** Shown by the daemon in its logs. */
  readonly name?: string;
  /** Says that directories of the same name are the same ones as in other sessions with this key. */
  readonly sharedKey?: string;
}

/** The services of this client, open to one daemon. Disposing ends it; the daemon then sees this client as gone. */
export interface Session extends Disposable {
  readonly id: string;
  /** Resolves when the session is over, whoever ended it, with the failure if one did. */
  readonly ended: Promise<Error | undefined>;
}

/**
 * Opens a session: in the messages of one streaming call the daemon speaks HTTP/2 to us, and there we are the server.
 *
 * The daemon knows the session some moments later; whatever names its id waits for it.
 */
export function openSession(control: Client<typeof Control>, options: SessionOptions): Session {
  const health = new HealthService([]);
  const implementations = [health.implementation, ...options.services];
  const id = newID();
  const over = new AbortController();
  const tunnel = openTunnel(bytes());
  const replies = control
    .session(messages(tunnel.outgoing), {
      headers: sessionHeaders(id, options, methodsOf(implementations)),
      signal: over.signal,
    })
    [Symbol.asyncIterator]();
  // Asked for at once, so that a call that fails is heard of even if the session ends before it reads.
  const first = replies.next();
  first.catch(() => undefined);
  async function* bytes(): AsyncGenerator<Uint8Array> {
    for (let reply = await first; reply.done !== true; reply = await replies.next()) {
      yield reply.value.data;
    }
  }
  let failure: Error | undefined;
  tunnel.duplex.on("error", (error) => {
    failure = error;
  });
  const ended = new Promise<Error | undefined>((resolve) => {
    tunnel.duplex.once("close", () => resolve(failure));
  });
  serveDuplex(tunnel.duplex, { implementations });
  return {
    id,
    ended,
    [Symbol.dispose]() {
      tunnel.duplex.destroy();
      over.abort();
    },
  };
}

async function* messages(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<{ data: Uint8Array }> {
  for await (const data of chunks) {
    yield { data };
  }
}

/** The method names stay apart as fields of one name: BuildKit reads them so (session/manager.go). */
function sessionHeaders(
  id: string,
  { name = "", sharedKey = "" }: SessionOptions,
  methods: readonly string[],
): [name: string, value: string][] {
  return [
    ["x-docker-expose-session-uuid", id],
    ["x-docker-expose-session-name", printable(name)],
    ["x-docker-expose-session-sharedkey", printable(sharedKey)],
    ...methods.map((method): [string, string] => ["x-docker-expose-session-grpc-method", method]),
  ];
}

/** A header takes no other characters, and a name is for people. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?").slice(0, 200);
}

function methodsOf(implementations: readonly Implementation[]): string[] {
  return implementations.flatMap(({ service, handlers }) =>
    service.methods
      .filter(({ localName }) => typeof handlers[localName] === "function")
      .map(({ name }) => `/${service.typeName}/${name}`),
  );
}
