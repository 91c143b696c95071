import { constants } from "node:os";
import type { Terminal } from "../terminal.ts";

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Exit codes of processes that a signal has ended are this and its number (POSIX, shell command language, 2.8.2). */
const signalExitCode = 128;

/** What we end with when nobody reads any more what we write. */
export const brokenPipeExitCode = signalExitCode + constants.signals.SIGPIPE;

/** Someone who wants this program to end. */
export interface Interruption extends Disposable {
  /** Aborted at the first signal. A second one ends the process at once. */
  readonly signal: AbortSignal;
  /** What to end with, or undefined as long as nobody wants that. */
  exitCode(): number | undefined;
}

/** Listens for signals, and for readers of our output that go away, until it is disposed of. */
export function listenForInterruption(terminal: Terminal): Interruption {
  const abort = new AbortController();
  let first: NodeJS.Signals | undefined;
  const interrupt = (signal: NodeJS.Signals) => {
    first ??= signal;
    abort.abort(new Error(`interrupted by ${signal}`));
  };
  const listeners = signals.map((signal) => {
    const listener = () => {
      // From now on signals do what they do to every process.
      ignore();
      interrupt(signal);
    };
    terminal.on(signal, listener);
    return { signal, listener };
  });
  const ignore = () => {
    for (const { signal, listener } of listeners) {
      terminal.off(signal, listener);
    }
  };
  // Node ignores SIGPIPE and tells of it by this event instead.
  const onBroken = () => interrupt("SIGPIPE");
  terminal.stdout.on("error", onBroken);
  terminal.stderr.on("error", onBroken);
  return {
    signal: abort.signal,
    exitCode: () => (first === undefined ? undefined : signalExitCode + constants.signals[first]),
    // Writes that are under way may still fail, so broken streams are listened to till the end.
    [Symbol.dispose]: ignore,
  };
}
