import { BuildKitClient } from "@oci-worker/client";
import { nearest } from "@oci-worker/nearest";
import { addressOf, tlsOf } from "./args/daemon.ts";
import { commandIndex, type FlagSpecs, type ParsedArgs, parseFlags } from "./args/flags.ts";
import { globalFlags } from "./args/global-flags.ts";
import { commandHelp, groupHelp, programHelp } from "./args/help.ts";
import { UsageError } from "./args/usage-error.ts";
import type { Command, CommandGroup } from "./commands/command.ts";
import { convert } from "./commands/convert.ts";
import { du } from "./commands/du.ts";
import { info } from "./commands/info.ts";
import { layers } from "./commands/layers.ts";
import { prune } from "./commands/prune.ts";
import { removals } from "./commands/removals.ts";
import { run } from "./commands/run.ts";
import { snapshots } from "./commands/snapshots/snapshots.ts";
import { snapshotter } from "./commands/snapshotter.ts";
import { sources } from "./commands/sources.ts";
import { workers } from "./commands/workers.ts";
import { failureLine } from "./output/failure.ts";
import type { Terminal } from "./terminal.ts";

const name = "ociw";
const commands: Readonly<Record<string, Command | CommandGroup>> = {
  run,
  convert,
  workers,
  info,
  du,
  prune,
  removals,
  snapshots,
  snapshotter,
  layers,
  sources,
};
const usageExitCode = 2;

/**
 * Runs the program with `args`, the words after its name. Whatever happens is told here.
 *
 * @returns the exit code: 2 if the command line is wrong, 1 for other failures, else the command's own.
 */
export async function runProgram(args: readonly string[], terminal: Terminal): Promise<number> {
  try {
    return await dispatch(args, terminal);
  } catch (error) {
    terminal.stderr.write(failureLine(name, error));
    if (error instanceof UsageError) {
      terminal.stderr.write(`"${name} --help" tells what can be said.\n`);
      return usageExitCode;
    }
    return 1;
  }
}

async function dispatch(args: readonly string[], terminal: Terminal): Promise<number> {
  const at = commandIndex(args, globalFlags);
  const before = parseFlags(args.slice(0, at), globalFlags);
  const word = args[at];
  const [after, help] = [args.slice(at + 1), programHelp(name, commands, globalFlags)];
  if (word === "help") {
    terminal.stdout.write(helpFor(after, help));
    return 0;
  }
  if (before.flags["help"] !== undefined) {
    terminal.stdout.write(help);
    return 0;
  }
  if (word === undefined) {
    terminal.stderr.write(help);
    return usageExitCode;
  }
  const entry = named(word, commands);
  return "commands" in entry
    ? await dispatchInGroup(entry, after, before.flags, terminal)
    : await runCommand(entry, entry.flags, after, before.flags, terminal);
}

/** Runs the command that the first word of `args` names. Flags of the group may stand before that. */
async function dispatchInGroup(
  group: CommandGroup,
  args: readonly string[],
  globals: ParsedArgs["flags"],
  terminal: Terminal,
): Promise<number> {
  const flags = { ...group.flags, ...globalFlags };
  const at = commandIndex(args, flags);
  const before = parseFlags(args.slice(0, at), flags);
  const word = args[at];
  if (word === undefined) {
    const wanted = before.flags["help"] !== undefined;
    const stream = wanted ? terminal.stdout : terminal.stderr;
    stream.write(groupHelp(name, group, globalFlags));
    return wanted ? 0 : usageExitCode;
  }
  const command = named(word, group.commands);
  const others = [...args.slice(0, at), ...args.slice(at + 1)];
  return await runCommand(command, { ...command.flags, ...group.flags }, others, globals, terminal);
}

async function runCommand(
  command: Command,
  flags: FlagSpecs,
  args: readonly string[],
  globals: ParsedArgs["flags"],
  terminal: Terminal,
): Promise<number> {
  const parsed = parseFlags(args, { ...flags, ...globalFlags });
  if (parsed.flags["help"] !== undefined) {
    terminal.stdout.write(commandHelp(name, { ...command, flags }, globalFlags));
    return 0;
  }
  const all = { ...globals, ...parsed.flags };
  const address = addressOf(all, terminal.env);
  const connect = async () => {
    const tls = await tlsOf(all);
    return new BuildKitClient(address, { ...(tls && { tls }) });
  };
  return await command.run({ ...parsed, address, connect, terminal });
}

function helpFor([word, second]: readonly string[], help: string): string {
  if (word === undefined) {
    return help;
  }
  const entry = named(word, commands);
  if (!("commands" in entry)) {
    return commandHelp(name, entry, globalFlags);
  }
  if (second === undefined) {
    return groupHelp(name, entry, globalFlags);
  }
  const command = named(second, entry.commands);
  return commandHelp(name, { ...command, flags: { ...command.flags, ...entry.flags } }, globalFlags);
}

function named<T>(word: string, known: Readonly<Record<string, T>>): T {
  const entry = Object.hasOwn(known, word) ? known[word] : undefined;
  if (entry === undefined) {
    const meant = nearest(word, [...Object.keys(known), ...(known === commands ? ["help"] : [])]);
    const hint =
      meant === undefined ? `want one of ${Object.keys(known).join(", ")}` : `did you mean ${meant}?`;
    throw new UsageError(`Cannot do ${JSON.stringify(word)}: there is no such command, ${hint}`);
  }
  return entry;
}
