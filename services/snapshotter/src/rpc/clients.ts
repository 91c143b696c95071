import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Snapshots } from "@oci-worker/api/containerd/snapshots";
import { quote } from "../metastore/key.ts";
import { keySchemeOf } from "../ownership/client.ts";
import type { Ownership } from "../ownership/ownership.ts";

type Handlers = ServiceImpl<typeof Snapshots>;

/** A method that changes snapshots. Cleanup is none: it takes away nothing that anybody could know of. */
type Change = "prepare" | "view" | "commit" | "remove" | "update";

/** Which snapshot a request is about. */
const keyOf: { readonly [M in Change]: (request: Parameters<Handlers[M]>[0]) => string } = {
  prepare: ({ key }) => key,
  view: ({ key }) => key,
  commit: ({ key }) => key,
  remove: ({ key }) => key,
  update: ({ info }) => info?.name ?? "",
};

/** `handlers`, with every change made in the name of the client that asks for it. To look at something is anybody's. */
export function forOneClient(handlers: Handlers, ownership: Ownership): Handlers {
  const guarded = Object.entries(keyOf).map(([method, key]) => {
    const handler = handlers[method as Change] as (
      request: never,
      context: HandlerContext,
    ) => Promise<object>;
    const change = (request: { readonly snapshotter: string }, context: HandlerContext) => {
      const about = key(request as never);
      const keys = about === "" ? undefined : keySchemeOf(about);
      return ownership.change(`${method} ${quote(about)}`, request.snapshotter, keys, () =>
        handler(request as never, context),
      );
    };
    return [method, change];
  });
  return { ...handlers, ...Object.fromEntries(guarded) };
}
