import type { HandlerContext } from "@connectrpc/connect";
import { metadataValues } from "@oci-worker/grpc/call";
import type { SessionHello } from "./session.ts";

/** A health check must be given a second at least, or a busy client never passes one. */
const minHealthTimeoutMs = 1000;

/** Reads the headers with which a client opens its session (BuildKit, session/manager.go). */
export function helloOf(context: HandlerContext): SessionHello {
  const one = (name: string) => metadataValues(context, name)[0] ?? "";
  const healthTimeoutMs = Number.parseInt(one("x-buildkit-session-health-custom-timeout"), 10);
  return {
    id: one("x-docker-expose-session-uuid"),
    name: one("x-docker-expose-session-name"),
    sharedKey: one("x-docker-expose-session-sharedkey"),
    methods: metadataValues(context, "x-docker-expose-session-grpc-method"),
    healthTimeoutMs: healthTimeoutMs >= minHealthTimeoutMs ? healthTimeoutMs : undefined,
  };
}
