import { spawn } from "node:child_process";
import { once } from "node:events";

/** Making a network name space waits for others that are just being taken down. */
const timeoutMs = 30_000;

/**
 * Runs `command` followed by `cat`, which is to enter name spaces first, and does `act` while it is in there; it has ended
 * when the promise settles.
 *
 * @param act is given its process id.
 * @throws what `act` throws, or what the program complained of.
 */
export async function whileInNamespace<T>(
  [program, ...args]: readonly [program: string, ...args: string[]],
  act: (pid: number) => T,
): Promise<T> {
  const child = spawn(program, [...args, "cat"], {
    stdio: ["pipe", "pipe", "pipe"],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  const complaints: Buffer[] = [];
  child.stderr.on("data", (chunk: Buffer) => complaints.push(chunk));
  // A child that ends early, which the answer tells better, closes the pipe.
  child.stdin.on("error", () => undefined);
  const ended = once(child, "close").catch((error: unknown) => error);
  try {
    // It answers when it is in there.
    child.stdin.write("\n");
    const answered = once(child.stdout, "data").then(() => true);
    answered.catch(() => undefined);
    const failed = ended.then((why) => why instanceof Error && complaints.push(Buffer.from(why.message)));
    if ((await Promise.race([answered, failed])) !== true || child.pid === undefined) {
      throw new Error(Buffer.concat(complaints).toString().trim() || `${program} was killed`);
    }
    return act(child.pid);
  } finally {
    child.stdin.end();
    await ended;
  }
}
