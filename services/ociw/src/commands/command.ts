import type { BuildKitClient } from "@oci-worker/client";
import type { FlagSpecs, ParsedArgs } from "../args/flags.ts";
import type { Described } from "../args/help.ts";
import type { Terminal } from "../terminal.ts";

/** What a command is told. */
export interface Invocation extends ParsedArgs {
  /** Address of the daemon. */
  readonly address: string;
  /**
   * A client of the daemon, by what the flags of every command say. Nothing is dialled yet.
   *
   * @throws {UsageError} if they make no sense.
   */
  readonly connect: () => Promise<BuildKitClient>;
  readonly terminal: Terminal;
}

/** One of the things this program does. */
export interface Command extends Described {
  /**
   * Does it.
   *
   * @returns the exit code.
   * @throws {UsageError} if the words or the values of flags make no sense.
   * @throws any other error is told in one line and makes the exit code 1.
   */
  run(invocation: Invocation): Promise<number>;
}

/** Commands about one thing, each named by a second word: `snapshots ls`. */
export interface CommandGroup extends Described {
  /** Flags that each of them takes, before its name or after it. */
  readonly flags: FlagSpecs;
  readonly commands: Readonly<Record<string, Command>>;
}
