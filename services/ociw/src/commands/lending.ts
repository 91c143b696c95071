import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { BuildOptions } from "@oci-worker/client/build";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { RunOptions } from "@oci-worker/llb/build";
import type { FlagSpecs } from "../args/flags.ts";
import { UsageError } from "../args/usage-error.ts";

export const lendingFlags = {
  secret: {
    value: "id=ID[,src=FILE|,env=NAME]",
    multiple: true,
    help: "lend the command a secret, as /run/secrets/ID",
  },
  ssh: {
    value: "ID[=SOCKET]",
    multiple: true,
    help: "lend the command an ssh agent, that of $SSH_AUTH_SOCK unless another is named",
  },
} as const satisfies FlagSpecs;

/** Where a secret is to be had. */
export interface SecretFrom {
  readonly id: string;
  readonly from: { readonly file: string } | { readonly variable: string };
}

/** An agent, and the socket that it answers on; undefined for the user's own. */
export interface AgentFrom {
  readonly id: string;
  readonly socket: string | undefined;
}

/** What of the user's a command may use while it runs. */
export interface Lending {
  readonly secrets: readonly SecretFrom[];
  readonly agents: readonly AgentFrom[];
}

/**
 * Makes sense of the values of {@link lendingFlags}.
 *
 * @throws {UsageError} if they make none.
 */
export function lendingOf(flags: Readonly<Record<string, readonly string[]>>): Lending {
  const secrets = (flags["secret"] ?? []).map(secretOf);
  const agents = (flags["ssh"] ?? []).map(agentOf);
  requireDistinct("secret", secrets);
  requireDistinct("ssh", agents);
  return { secrets, agents };
}

/** As buildctl has it: `id=ID`, and `src=FILE` or `env=NAME`; with neither the variable or the file called ID. */
function secretOf(text: string): SecretFrom {
  const wrong = () =>
    new UsageError(`Cannot use --secret ${JSON.stringify(text)}: want id=ID, with ,src=FILE or ,env=NAME`);
  const fields = new Map<string, string>();
  for (const field of text.split(",")) {
    const [, name, value] = /^(id|src|source|env|type)=(.+)$/s.exec(field) ?? [];
    if (name === undefined || value === undefined || fields.has(name)) {
      throw wrong();
    }
    fields.set(name === "source" ? "src" : name, value);
  }
  const [id, file, variable, type] = ["id", "src", "env", "type"].map((name) => fields.get(name));
  if (id === undefined || id.includes("/") || (file !== undefined && variable !== undefined)) {
    throw wrong();
  }
  if (type !== undefined && type !== "file" && type !== "env") {
    throw wrong();
  }
  if (type === "env" || variable !== undefined) {
    return { id, from: { variable: variable ?? file ?? id } };
  }
  return { id, from: { file: file ?? id } };
}

function agentOf(text: string): AgentFrom {
  const [, id, socket] = /^([^=,/]+)(?:=([^,]+))?$/.exec(text) ?? [];
  if (id === undefined) {
    throw new UsageError(`Cannot use --ssh ${JSON.stringify(text)}: want ID or ID=SOCKET, such as default`);
  }
  return { id, socket };
}

function requireDistinct(flag: string, named: readonly { readonly id: string }[]): void {
  const twice = named.find(({ id }, index) => named.findIndex((other) => other.id === id) !== index);
  if (twice !== undefined) {
    throw new UsageError(`Cannot use --${flag} ${JSON.stringify(twice.id)} twice: want another id`);
  }
}

/** What a daemon may ask of us for the sake of the command, and how the command sees it. */
export interface Lent {
  readonly options: Pick<BuildOptions, "secrets" | "sshAgents">;
  readonly mounts: NonNullable<RunOptions["mounts"]>;
  /** `NAME=value` for the command. */
  readonly env: readonly string[];
}

/** The command alone is in its container, whoever it runs as. */
const secretMode = 0o444;
const socketMode = 0o666;

/**
 * Gets ready what is lent. Secrets are read now, so that a wrong name is told before anything is pulled.
 *
 * @throws {InvalidArgumentError} naming what is not there.
 */
export async function lend({ secrets, agents }: Lending, env: NodeJS.ProcessEnv): Promise<Lent> {
  const contents = new Map<string, Uint8Array>();
  for (const { id, from } of secrets) {
    contents.set(
      id,
      "file" in from ? await fileContent(id, from.file) : variableContent(id, from.variable, env),
    );
  }
  const sockets = agents.map(({ id, socket }) => [id, agentSocket(id, socket, env)] as const);
  const socketPaths = agents.map((_, index) => `/run/buildkit/ssh_agent.${index}`);
  return {
    options: {
      ...(secrets.length > 0 && { secrets: (id: string) => Promise.resolve(contents.get(id)) }),
      ...(agents.length > 0 && { sshAgents: Object.fromEntries(sockets) }),
    },
    mounts: [
      ...secrets.map(({ id }) => {
        return { type: "secret", id, dest: `/run/secrets/${id}`, mode: secretMode } as const;
      }),
      ...agents.map(({ id }, index) => {
        return { type: "ssh", id, dest: socketPaths[index] ?? "", mode: socketMode } as const;
      }),
    ],
    env: socketPaths.slice(0, 1).map((path) => `SSH_AUTH_SOCK=${path}`),
  };
}

async function fileContent(id: string, file: string): Promise<Uint8Array> {
  try {
    return await readFile(resolve(file));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new InvalidArgumentError(`Cannot read secret ${JSON.stringify(id)}: ${why}`, { cause });
  }
}

function variableContent(id: string, variable: string, env: NodeJS.ProcessEnv): Uint8Array {
  const value = env[variable];
  if (value === undefined) {
    throw new InvalidArgumentError(
      `Cannot read secret ${JSON.stringify(id)}: the environment has no variable ${variable}`,
    );
  }
  return Buffer.from(value);
}

function agentSocket(id: string, socket: string | undefined, env: NodeJS.ProcessEnv): string {
  const path = socket ?? env["SSH_AUTH_SOCK"];
  if (path === undefined || path === "") {
    throw new InvalidArgumentError(
      `Cannot lend ssh agent ${JSON.stringify(id)}: $SSH_AUTH_SOCK is not set, want an agent or ${id}=SOCKET`,
    );
  }
  return resolve(path);
}
