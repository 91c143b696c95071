import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import { SecurityMode } from "@oci-worker/api/buildkit/llb";
import type { ExecMessageSchema, ExitMessage, LLBBridge } from "@oci-worker/api/buildkit/llb-bridge";
import { Handoff } from "@oci-worker/flights/handoff";
import type { SecretVariable } from "@oci-worker/llb/exec-op";
import { newID } from "../new-id.ts";
import { buildErrorOf } from "./build-error.ts";

type Message = MessageInitShape<typeof ExecMessageSchema>;

/** A process to run in a container. */
export interface ProcessOptions {
  /** The program and its arguments. */
  readonly args: readonly string[];
  readonly env?: readonly string[];
  readonly secretEnv?: readonly SecretVariable[];
  /** `/` unless given. */
  readonly cwd?: string;
  /** `user`, `user:group`, by name or number; root unless given. */
  readonly user?: string;
  /** `insecure` needs the entitlement `security.insecure`; counts for the first process of a container. */
  readonly security?: "sandbox" | "insecure";
  /** Whether it has a terminal; all that it writes comes from 1 then. */
  readonly terminal?: boolean;
  /** What it reads; nothing unless given. */
  readonly input?: AsyncIterable<Uint8Array>;
  /** Told what it writes. The process waits for a promise that is returned. */
  readonly onOutput?: (fd: 1 | 2, data: Uint8Array) => Promise<void> | void;
}

/** How a process has ended. */
export interface ProcessExit {
  /** 255 if it could not be run. */
  readonly code: number;
  /** A `BuildError` if it has failed. */
  readonly error: unknown;
}

/** A process that runs. */
export interface ContainerProcess {
  /** Gives its terminal another size, in characters. */
  resize(rows: number, columns: number): void;
  /** @param name without "SIG", such as `TERM`. */
  signal(name: string): void;
  /** @throws {BuildError} if the daemon ends the stream before the process has ended. */
  readonly exit: Promise<ProcessExit>;
}

/** A container of a build. The first process in it is its own: when that ends, the others are killed. */
export interface Container {
  /** Starts a process. Aborting `signal` kills it. Resolves when it runs, or is sure to. */
  start(options: ProcessOptions, signal?: AbortSignal): Promise<ContainerProcess>;
  /**
   * Kills what runs in it, and removes it.
   *
   * @throws {BuildError} as the first of its processes that has failed, those included that are killed now.
   */
  release(): Promise<void>;
}

/** The container `id`, which has been made. */
export function containerOf(bridge: Client<typeof LLBBridge>, id: string, call: CallOptions): Container {
  return {
    start: async (options, signal) => {
      const ends = [call.signal, signal].filter((each) => each !== undefined);
      const process = new RunningProcess(options, id);
      const requests = process.requests();
      const responses = bridge.execProcess(requests, { ...call, signal: AbortSignal.any(ends) });
      const exit = process.follow(responses);
      exit.catch(() => undefined);
      await Promise.race([process.started, exit]);
      return {
        resize: (Rows, Cols) => process.send({ case: "Resize", value: { Rows, Cols } }),
        signal: (Name) => process.send({ case: "Signal", value: { Name } }),
        exit,
      };
    },
    release: async () => {
      await bridge.releaseContainer({ ContainerID: id }, call).catch((thrown: unknown) => {
        throw buildErrorOf(thrown);
      });
    },
  };
}

/** A process on a stream of its own. */
class RunningProcess {
  readonly #id = newID();
  readonly #options: ProcessOptions;
  /** What is sent one at a time, when the daemon has taken what was before it. */
  readonly #queue = new Handoff<Message>({ limit: 0 });
  readonly #started = Promise.withResolvers<void>();

  constructor(options: ProcessOptions, containerID: string) {
    this.#options = options;
    const { args, env = [], secretEnv = [], cwd = "/", user = "", security, terminal = false } = options;
    const Meta = { args: [...args], env: [...env], cwd, user, removeMountStubsRecursive: true };
    const secretenv = secretEnv.map(({ name, id, optional = false }) => ({ name, ID: id, optional }));
    const Security = security === "insecure" ? SecurityMode.INSECURE : SecurityMode.SANDBOX;
    const Fds = [...(options.input === undefined ? [] : [0]), 1, 2];
    this.send({
      case: "Init",
      value: { ContainerID: containerID, Meta, Fds, Tty: terminal, Security, secretenv },
    });
  }

  get started(): Promise<void> {
    return this.#started.promise;
  }

  send(Input: NonNullable<Message["Input"]>): void {
    void this.#queue.put({ ProcessID: this.#id, Input });
  }

  requests(): AsyncIterable<Message> {
    return this.#queue;
  }

  /** Passes on what comes, to the end of the process. */
  async follow(responses: AsyncIterable<{ readonly Input: ResponseInput }>): Promise<ProcessExit> {
    let exit: ExitMessage | undefined;
    try {
      for await (const { Input } of responses) {
        switch (Input.case) {
          case "Started":
            this.#started.resolve();
            this.#feed();
            break;
          case "File":
            if (Input.value.Data.length > 0) {
              await this.#options.onOutput?.(Input.value.Fd === 2 ? 2 : 1, Input.value.Data);
            }
            break;
          case "Exit":
            exit = Input.value;
            break;
          case "Done":
            this.#queue.end();
            break;
        }
      }
    } catch (thrown) {
      throw buildErrorOf(thrown);
    } finally {
      this.#queue.discard();
    }
    return exitOf(exit);
  }

  #feed(): void {
    const { input } = this.#options;
    if (input === undefined) {
      return;
    }
    const send = async () => {
      for await (const Data of input) {
        await this.#queue.put({ ProcessID: this.#id, Input: { case: "File", value: { Fd: 0, Data } } });
        if (this.#queue.isEnded) {
          return;
        }
      }
      this.send({ case: "File", value: { Fd: 0, EOF: true } });
    };
    send().catch(() => this.#queue.end());
  }
}

type ResponseInput =
  | { readonly case: "File"; readonly value: { readonly Fd: number; readonly Data: Uint8Array } }
  | { readonly case: "Exit"; readonly value: ExitMessage }
  | { readonly case: "Started" | "Done" | "Init" | "Resize" | "Signal"; readonly value: unknown }
  | { readonly case: undefined };

function exitOf(exit: ExitMessage | undefined): ProcessExit {
  if (exit === undefined) {
    throw buildErrorOf(new ConnectError("the daemon ended the stream of a process that runs", Code.Aborted));
  }
  const { Code: code, Error: status } = exit;
  const error = status && buildErrorOf(new ConnectError(status.message, status.code));
  return { code, error };
}
