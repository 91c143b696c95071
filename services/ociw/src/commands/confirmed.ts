import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Terminal } from "../terminal.ts";

/**
 * Tells a person what is about to happen and asks whether it should.
 *
 * @throws {FailedPreconditionError} if standard input is no terminal, so that nobody can be asked.
 */
export async function confirmed(
  warning: string,
  { stdin, stderr }: Pick<Terminal, "stdin" | "stderr">,
  signal: AbortSignal,
): Promise<boolean> {
  if (stdin.isTTY !== true) {
    throw new FailedPreconditionError(
      "Cannot ask whether to go on: standard input is no terminal, want --force to go on without",
    );
  }
  stderr.write(`${warning}Are you sure you want to continue? [y/N] `);
  const input = stdin[Symbol.asyncIterator]();
  const interrupted = new Promise<undefined>((resolve) => {
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
  // A terminal hands over a line at a time.
  const line = await Promise.race([input.next(), interrupted]);
  await input.return?.();
  return line !== undefined && line.done !== true && /^\s*y(es)?\s*$/i.test(String(line.value));
}
