import { addressOf, globalFlags } from "./args/address.ts";
import { commandIndex, parseFlags } from "./args/flags.ts";
import { commandHelp, programHelp } from "./args/help.ts";
import { nearest } from "./args/nearest.ts";
import { UsageError } from "./args/usage-error.ts";
import type { Command } from "./commands/command.ts";
import { info } from "./commands/info.ts";
import { run } from "./commands/run.ts";
import { workers } from "./commands/workers.ts";
import { failureLine } from "./output/failure.ts";
import type { Terminal } from "./terminal.ts";

const name = "ociw";
const commands: Readonly<Record<string, Command>> = { run, workers, info };
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
  const command = commandNamed(word);
  const parsed = parseFlags(after, { ...command.flags, ...globalFlags });
  if (parsed.flags["help"] !== undefined) {
    terminal.stdout.write(commandHelp(name, command, globalFlags));
    return 0;
  }
  const address = addressOf(parsed.flags["addr"]?.[0] ?? before.flags["addr"]?.[0], terminal.env);
  return await command.run({ ...parsed, address, terminal });
}

function helpFor([word]: readonly string[], help: string): string {
  return word === undefined ? help : commandHelp(name, commandNamed(word), globalFlags);
}

function commandNamed(word: string): Command {
  const command = Object.hasOwn(commands, word) ? commands[word] : undefined;
  if (command === undefined) {
    const meant = nearest(word, [...Object.keys(commands), "help"]);
    const hint =
      meant === undefined ? `want one of ${Object.keys(commands).join(", ")}` : `did you mean ${meant}?`;
    throw new UsageError(`Cannot do ${JSON.stringify(word)}: there is no such command, ${hint}`);
  }
  return command;
}
