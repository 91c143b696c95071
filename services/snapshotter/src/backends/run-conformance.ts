import { join } from "node:path";
import { conformance } from "@oci-worker/snapshots/conformance";
import { openProxy } from "@oci-worker/snapshots/proxy";
import { pino } from "pino";
import { defaults } from "../config.ts";
import { serveSnapshotter } from "../server.ts";
import { openSnapshotter } from "./open.ts";

const traits = {
  native: { canRebase: false, holdsWholeTrees: true },
  overlayfs: { canRebase: true, holdsWholeTrees: false },
  "fuse-overlayfs": { canRebase: true, holdsWholeTrees: false },
  stargz: { canRebase: true, holdsWholeTrees: false },
} as const;

/** Runs the conformance suite on `backend`, over the socket. Each has a file of its own, so that they run side by side. */
export function runConformance(backend: keyof typeof traits): void {
  conformance(backend, traits[backend], async (root) => {
    const log = pino({ level: "silent" });
    await using undo = new AsyncDisposableStack();
    const config = {
      ...defaults,
      root,
      snapshotter: backend,
      address: join(root, "snapshotter.sock"),
      // Of stargz; with nobody there all layers are unpacked.
      resolverAddress: join(root, "resolver.sock"),
    };
    const store = undo.use(await openSnapshotter(config, log));
    undo.use(await serveSnapshotter(config, store, log));
    const snapshotter = undo.use(openProxy(config.address, { snapshotter: backend }));
    const owned = undo.move();
    return { snapshotter, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  });
}
