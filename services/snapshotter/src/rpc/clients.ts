import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Snapshots } from "@oci-worker/api/containerd/snapshots";
import type { Logger } from "pino";

/** So many names are told apart; more only come from somebody who plays. */
const maxNames = 16;
const maxNameChars = 100;

/**
 * Watches by which names clients ask for this snapshotter, and logs each one when it comes first.
 *
 * There is one client to an instance: its garbage collector deletes every snapshot that it does not know. A second name
 * is the sign of a second client, whose snapshots are about to be lost.
 */
export function watchClients(
  handlers: ServiceImpl<typeof Snapshots>,
  log: Logger,
): ServiceImpl<typeof Snapshots> {
  const names = new Set<string>();

  const note = (requested: string): void => {
    const snapshotter = requested.slice(0, maxNameChars);
    // Who names none, such as `ociw snapshots`, only looks.
    if (snapshotter === "" || names.has(snapshotter) || names.size === maxNames) {
      return;
    }
    names.add(snapshotter);
    if (names.size === 1) {
      log.info({ snapshotter }, "first client");
    } else {
      const earlier = [...names].slice(0, -1);
      log.warn(
        { snapshotter, earlier },
        "asked for by another name: each client needs an instance of its own",
      );
    }
  };

  const watched = Object.entries(handlers).map(([method, handler]) => [
    method,
    (request: { readonly snapshotter: string }, context: HandlerContext) => {
      note(request.snapshotter);
      return (handler as (request: unknown, context: HandlerContext) => unknown)(request, context);
    },
  ]);
  return Object.fromEntries(watched) as ServiceImpl<typeof Snapshots>;
}
