import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A request for a part of a blob. */
export interface SampleRequest {
  readonly digest: string;
  readonly range: string | undefined;
  readonly headers: IncomingMessage["headers"];
}

/** Answers otherwise than a good registry would. @returns whether it has, or will. */
export type Misbehave = (request: SampleRequest, response: ServerResponse) => boolean;

/** A registry on loopback that has blobs, for tests of what registries may do wrong. */
export interface SampleRegistry extends AsyncDisposable {
  /** Address and port. */
  readonly host: string;
  readonly blobs: Map<string, Buffer>;
  /** Manifests and indexes, by tag and by digest. */
  readonly manifests: Map<string, Buffer>;
  readonly requests: SampleRequest[];
  misbehave: Misbehave;
  /** Goes away: connections break, and nobody answers at its address. */
  die(): Promise<void>;
  /** Comes back at the same address. */
  revive(): Promise<void>;
}

export async function sampleRegistry(blobs: Readonly<Record<string, Buffer>> = {}): Promise<SampleRegistry> {
  const requests: SampleRequest[] = [];
  const handle = (incoming: IncomingMessage, response: ServerResponse) => {
    const [, name] = /\/manifests\/([^?]+)/.exec(incoming.url ?? "") ?? [];
    if (name !== undefined) {
      sendManifest(response, registry.manifests.get(name));
      return;
    }
    const digest = /\/blobs\/([^?]+)/.exec(incoming.url ?? "")?.[1] ?? "";
    const request = { digest, range: incoming.headers.range, headers: incoming.headers };
    requests.push(request);
    if (!registry.misbehave(request, response)) {
      sendPart(request, response, registry.blobs.get(digest));
    }
  };
  const server = createServer(handle);
  const listen = async (port: number) => {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  };
  const close = async () => {
    if (server.listening) {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    }
  };
  const port = await listen(0);
  const registry: SampleRegistry = {
    host: `127.0.0.1:${port}`,
    blobs: new Map(Object.entries(blobs)),
    manifests: new Map(),
    requests,
    misbehave: () => false,
    die: close,
    revive: async () => void (await listen(port)),
    [Symbol.asyncDispose]: close,
  };
  return registry;
}

function sendManifest(response: ServerResponse, manifest: Buffer | undefined): void {
  if (manifest === undefined) {
    response.writeHead(404).end();
    return;
  }
  const { mediaType } = JSON.parse(manifest.toString());
  response.writeHead(200, { "content-type": mediaType, "content-length": manifest.length }).end(manifest);
}

/** As the distribution spec wants it. */
export function sendPart(
  { range = "" }: Pick<SampleRequest, "range">,
  response: ServerResponse,
  blob: Buffer | undefined,
): void {
  if (blob === undefined) {
    response.writeHead(404).end();
    return;
  }
  const [, from = "", to = ""] = /^bytes=(\d*)-(\d*)$/.exec(range) ?? [];
  if (from === "" && to === "") {
    response.writeHead(200, { "content-length": blob.length }).end(blob);
    return;
  }
  const first = from === "" ? Math.max(0, blob.length - Number(to)) : Number(from);
  const last = from === "" || to === "" ? blob.length - 1 : Math.min(Number(to), blob.length - 1);
  response.writeHead(206, { "content-range": `bytes ${first}-${last}/${blob.length}` });
  response.end(blob.subarray(first, last + 1));
}
