import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { SSH } from "@oci-worker/api/session/ssh";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { metadataValues } from "@oci-worker/grpc/call";
import { type Implementation, implement } from "@oci-worker/grpc/router";

/** Sockets of ssh agents by the id that steps call them by. */
export type AgentSockets = Readonly<Record<string, string>>;

/** The header that says which agent is meant (BuildKit, session/sshforward). */
const idHeader = "buildkit.ssh.id";

/** What a step that names none means. */
const defaultId = "default";

/** Serves moby.sshforward.v1.SSH: lends build steps the agents behind `sockets`. Keys stay with the agents. */
export function sshAgentService(sockets: AgentSockets): Implementation {
  return implement(SSH, {
    checkAgent({ ID }) {
      socketOf(sockets, ID);
      return {};
    },

    async *forwardAgent(requests, context) {
      const [id = ""] = metadataValues(context, idHeader);
      const agent = await connectTo(socketOf(sockets, id), id);
      const end = () => agent.destroy();
      context.signal.addEventListener("abort", end, { once: true });
      try {
        const sending = pipeline(bytesOf(requests), agent);
        // Whichever way it ends, the agent's answers end too, and are what the caller hears of it.
        sending.catch(end);
        for await (const data of agent) {
          yield { data };
        }
      } finally {
        context.signal.removeEventListener("abort", end);
        end();
      }
    },
  });
}

function socketOf(sockets: AgentSockets, id: string): string {
  const name = id === "" ? defaultId : id;
  const path = Object.hasOwn(sockets, name) ? sockets[name] : undefined;
  if (path === undefined) {
    throw new NotFoundError(`unset ssh forward key ${name}`);
  }
  return path;
}

async function connectTo(path: string, id: string): Promise<Socket> {
  const socket = connect(path);
  try {
    await once(socket, "connect");
    return socket;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(`Cannot reach ssh agent ${JSON.stringify(id)}: ${why}`, { cause });
  }
}

async function* bytesOf(messages: AsyncIterable<{ data: Uint8Array }>): AsyncGenerator<Uint8Array> {
  for await (const { data } of messages) {
    yield data;
  }
}
