import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposable } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { UnavailableError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { RegistryClient } from "@oci-worker/registry/client";
import { SourceClient } from "@oci-worker/sources/source-client";
import { layerPlaces } from "./layer-places.ts";

describe("layerPlaces", () => {
  test("does not wait for a resolver that takes calls and answers none", async () => {
    await using undo = new AsyncDisposableStack();
    const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "resolver-")));
    const sockets = new Set<Socket>();
    const server = createServer((socket) => sockets.add(socket.on("error", () => undefined)));
    const path = join(directory.path, "resolver.sock");
    server.listen(path);
    await once(server, "listening");
    undo.defer(async () => {
      for (const socket of sockets) {
        socket.destroy();
      }
      server.close();
      await once(server, "close");
    });
    const channel = undo.use(unixChannel(path));
    const registry = undo.use(new RegistryClient());
    await assert.rejects(
      layerPlaces({}, { sources: new SourceClient(channel), registry }, new AbortController().signal),
      (error) => {
        assert(error instanceof UnavailableError, String(error));
        assert.match(error.message, /the resolver has not answered for 5000 ms/);
        return true;
      },
    );
    assert.equal(sockets.size, 1);
  });
});
