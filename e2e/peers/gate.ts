import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A place that a step in the network of this process passes when the test lets it, and no sooner. */
export interface Gate extends AsyncDisposable {
  /** A command for a step in an image of image.ts that ends well when the gate is open. It prints nothing. */
  readonly command: string;
  open(): void;
}

/** Makes a gate that is closed. */
export async function makeGate(): Promise<Gate> {
  const waiting: ServerResponse[] = [];
  let isOpen = false;
  const server = createServer((_request, response) => {
    if (isOpen) {
      response.end();
    } else {
      waiting.push(response);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    command: `busybox wget -qO- http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    open: () => {
      isOpen = true;
      for (const response of waiting.splice(0)) {
        response.end();
      }
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
