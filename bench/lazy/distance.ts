import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A way to a server on this machine that takes as long as one across a network. Disposing closes it. */
export interface Distance extends AsyncDisposable {
  /** Address and port. */
  readonly host: string;
}

/**
 * Passes on to `host` what it is sent, and back, each piece `roundTripMs / 2` later. What is sent first over a connection
 * takes a round trip more, as it does with TCP. It is far, not narrow: pieces do not wait for each other.
 */
export async function putAway(host: string, roundTripMs: number): Promise<Distance> {
  const { hostname, port } = new URL(`http://${host}`);
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    const openAt = performance.now() + roundTripMs;
    passOn(near, far, openAt, roundTripMs / 2);
    passOn(far, near, openAt, roundTripMs / 2);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) {
        socket.destroy();
      }
      await closed;
    },
  };
}

function passOn(from: Socket, to: Socket, openAt: number, delayMs: number): void {
  const waiting: (Buffer | undefined)[] = [];
  const later = (piece: Buffer | undefined) => {
    waiting.push(piece);
    const dueAt = Math.max(performance.now(), openAt) + delayMs;
    // Timers count in whole milliseconds and may overtake each other; pieces must not.
    setTimeout(() => send(waiting.shift()), dueAt - performance.now());
  };
  const send = (piece: Buffer | undefined) => (piece === undefined ? to.end() : to.write(piece));
  from.setNoDelay(true);
  from.on("data", later);
  from.on("end", () => later(undefined));
  from.on("error", () => to.destroy());
}
