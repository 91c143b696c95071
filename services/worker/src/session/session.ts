import type { Channel } from "@oci-worker/grpc/channel";

/** What a client says of itself in the headers of its Session call. */
export interface SessionHello {
  readonly id: string;
  /** Name of the client's build context; empty since v0.12. */
  readonly name: string;
  /** Identifies the client's directory across its sessions; empty if it shares nothing. */
  readonly sharedKey: string;
  /** gRPC methods that the client serves to us: `/package.Service/Method`. */
  readonly methods: readonly string[];
  /** How long a health check may take, if the client knows better than we do. */
  readonly healthTimeoutMs: number | undefined;
}

/** One attached client, and the gRPC channel back to it. */
export interface Session extends SessionHello {
  readonly channel: Channel;
  readonly attachedAt: Date;
  /** Normalised image references that builds of this session have used. */
  readonly references: Set<string>;
  /** Aborted when the client has gone or does not answer any more. */
  readonly signal: AbortSignal;
  /** Whether the client serves `method`, whatever the case of its letters: upstream's clients differ in it. */
  supports(method: string): boolean;
}
