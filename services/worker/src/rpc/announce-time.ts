import type { HandlerContext } from "@connectrpc/connect";
import { sendHeaders } from "@oci-worker/grpc/call";

/** Sends our time before anything else, by which clients correct the times that they show. */
export function announceTime(context: HandlerContext): void {
  context.responseHeader.set("buildkit-current-timestamp", new Date().toISOString());
  sendHeaders(context);
}
