import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const run = promisify(execFile);

/**
 * A web server in a network of its own, beyond the one of this process, with a cable between the two. `/who` says which
 * address asks; `/meet` answers when two have asked.
 */
export interface OutsideServer extends AsyncDisposable {
  readonly url: string;
  /** The address that this process's network has on the cable. */
  readonly ourAddress: string;
}

const ourAddress = "192.0.2.1";
const itsAddress = "192.0.2.2";
const port = 8080;

const server = `
  const { createServer } = require("node:http");
  let waiting;
  createServer(({ url, socket }, response) => {
    if (url !== "/meet") {
      response.end(socket.remoteAddress + "\\n");
    } else if (waiting === undefined) {
      waiting = response;
    } else {
      waiting.end("met\\n");
      response.end("met\\n");
      waiting = undefined;
    }
  }).listen(${port}, "${itsAddress}", () => console.log("listening"));
  process.stdin.resume().on("end", () => process.exit());
`;

/** Starts the server and connects it. Call it from a network that nobody else has (enter-own-namespaces.ts). */
export async function startOutsideServer(): Promise<OutsideServer> {
  // It says that it is there, and then waits until its address is.
  const script = 'echo ready; read go; ip link set lo up; exec "$@"';
  const child = spawn("unshare", ["--net", "sh", "-c", script, "sh", process.execPath, "-e", server], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "close");
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const stop = async () => {
    child.stdin.end();
    await ended;
  };
  try {
    await expectLine(lines, "ready");
    await run("sh", [
      "-ec",
      `ip link add outside type veth peer name cable netns ${child.pid}
       ip address add ${ourAddress}/24 dev outside
       ip link set outside up
       nsenter --target ${child.pid} --net ip address add ${itsAddress}/24 dev cable
       nsenter --target ${child.pid} --net ip link set cable up`,
    ]);
    child.stdin.write("go\n");
    await expectLine(lines, "listening");
  } catch (error) {
    await stop();
    throw error;
  }
  return { url: `http://${itsAddress}:${port}`, ourAddress, [Symbol.asyncDispose]: stop };
}

async function expectLine(lines: AsyncIterator<string>, wanted: string): Promise<void> {
  const { value } = await lines.next();
  if (value !== wanted) {
    throw new Error(`the server outside said ${JSON.stringify(value)}, want ${wanted}`);
  }
}
