import type { ReceivedTree } from "@oci-worker/fsutil/receive";
import type { Implementation } from "@oci-worker/grpc/router";
import type { CredentialSource } from "../credentials/credentials.ts";
import type { SecretSource } from "../session/secrets.ts";
import type { AgentSockets } from "../session/ssh-agents.ts";
import type { StatusUpdate } from "./status.ts";

/**
 * Takes a file from the daemon, in pieces. The build is over when it has.
 *
 * @param about what the daemon says of it beforehand, such as `containerimage.digest`.
 */
export type FileTaker = (
  pieces: AsyncIterable<Uint8Array>,
  about: Readonly<Record<string, string>>,
) => Promise<void>;

/** Where the result of a build goes. */
export type Output =
  /** Its files into a directory of ours; what is there and is not in the result stays. */
  | { readonly type: "local"; readonly directory: string }
  /** Into a file of ours, from an exporter of the daemon that sends one, such as `oci`, `docker` or `tar`. */
  | {
      readonly type: "file";
      readonly exporter: string;
      readonly attributes: Readonly<Record<string, string>>;
      readonly write: FileTaker;
    }
  /** To an exporter of the daemon that asks nothing of us, such as `image`. */
  | {
      readonly type: "exporter";
      readonly name: string;
      readonly attributes: Readonly<Record<string, string>>;
    };

export interface BuildOptions {
  /** Without one the result stays in the daemon's cache. */
  readonly output?: Output;
  /** Asked when a registry wants to know who pulls; without one images are pulled anonymously. */
  readonly credentials?: CredentialSource;
  /** Whether tokens for registries are got here, as they are unless it is false: then the daemon is shown passwords. */
  readonly fetchesTokens?: boolean;
  /** Asked for the secrets of steps. */
  readonly secrets?: SecretSource;
  /** ssh agents that steps may use, by the id that the steps call them by, such as `default`. */
  readonly sshAgents?: AgentSockets;
  /** What steps may do beyond the usual, such as `network.host`. The daemon must allow it, too. */
  readonly entitlements?: readonly string[];
  /** Whether steps reach networks by an HTTP proxy of the daemon alone, which tells in their logs what they have asked for. */
  readonly proxyNetwork?: boolean;
  /** Where this user's part of the token authority's secret is kept; docker's configuration directory unless given. */
  readonly seedDirectory?: string;
  /** More services for the daemon to call. */
  readonly services?: readonly Implementation[];
  readonly sessionName?: string;
  /** Aborting it cancels the build. */
  readonly signal?: AbortSignal;
}

export interface BuildResult {
  /** What the exporter says of its work, such as `containerimage.digest`. */
  readonly exporterResponse: Readonly<Record<string, string>>;
  /** What has arrived in the directory of a local output. */
  readonly received: ReceivedTree | undefined;
}

/** A build that is running. */
export interface Build {
  /** Names the build to the daemon. */
  readonly id: string;
  /**
   * What happens, for one reader. It ends with the build, or a moment later.
   *
   * Nobody has to read it, but who does should not stop halfway without leaving the loop: the daemon waits for slow
   * readers until the build is over.
   */
  readonly status: AsyncIterable<StatusUpdate>;
  /**
   * Resolves when the build is done and its session is closed.
   *
   * @throws {BuildError} if it has failed.
   * @throws {CanceledError} if it was canceled; the daemon has cleaned up after it then.
   * @throws {UnavailableError} if the daemon cannot be reached or is lost.
   */
  readonly result: Promise<BuildResult>;
}
