import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** What the kernels can do that these policies are written for, part of Debian's package apparmor: this one may have none. */
const features = "/etc/apparmor.d/abi/3.0";

/** Compiles, warnings being errors, and loads nothing into the kernel. */
const compiling = ["--skip-kernel-load", "--kernel-features", features, "--Werror"];

/** A policy of AppArmor as its parser has compiled it. */
export interface AppArmorPolicy {
  /** As operators name them. */
  readonly profiles: readonly string[];
  /** What the kernel would load. */
  readonly binary: Buffer;
  /** Whether a program with the profile may do this to a file of its own; of the first profile. */
  mayFile(path: string, access: keyof typeof accessBits): boolean;
  /** Whether the kernel asks the first profile about mounts, and it never allows one. */
  readonly deniesMounts: boolean;
}

/** In the parser's numbers (of the owner of a file). */
const accessBits = { execute: 1, write: 2, read: 4, append: 8 };

/** What the kernel begins its questions about mounts with (AA_CLASS_MOUNT). */
const mountClass = 7;

/**
 * Has the parser compile the policy in `file`, writing the binary to `target`.
 *
 * @throws what the parser says, if that is anything: warnings are errors.
 */
export async function compilePolicy(file: string, target: string): Promise<AppArmorPolicy> {
  const { stderr } = await run("apparmor_parser", [...compiling, "--ofile", target, file]);
  // That this kernel has no AppArmor is all that it may have to say.
  const complaints = stderr.split("\n").filter((line) => line !== "" && !line.startsWith("Cache read/write"));
  if (complaints.length > 0) {
    throw new Error(complaints.join("\n"));
  }
  const names = await run("apparmor_parser", ["--names", file]);
  const states = await run("apparmor_parser", [...compiling, "--dump=dfa-states", file], {
    maxBuffer: 64 * 1024 * 1024,
  });
  const [files, others] = parseAutomata(states.stdout + states.stderr);
  return {
    profiles: names.stdout.trimEnd().split("\n"),
    binary: await readFile(target),
    mayFile: (path, access) => (permissions(files, path) & accessBits[access]) !== 0,
    deniesMounts: deniesAll(others, mountClass),
  };
}

interface State {
  allowed: number;
  /** By byte. */
  readonly next: Map<number, string>;
  /** For every other byte, but those that lead nowhere. */
  otherwise?: { readonly state: string; readonly not: string };
}

/** By name. */
type Automaton = ReadonlyMap<string, State>;

const start = "1";

/** Reads the states of both automata: that of the files, and that of everything else. */
function parseAutomata(dump: string): readonly [Automaton, Automaton] {
  const bodies = dump.matchAll(/^\{1\} <==[\s\S]*?\n\n([\s\S]*?)(?:\n\n|$(?![\s\S]))/gm);
  const [files, others] = [...bodies].map(([, body = ""]) => parseStates(body));
  if (files === undefined || others === undefined) {
    throw new Error("Cannot find two automata in what the parser dumps");
  }
  return [files, others];
}

function parseStates(body: string): Automaton {
  const states = new Map<string, State>();
  let current: State = { allowed: 0, next: new Map() };
  for (const line of body.split("\n").filter((each) => each !== "")) {
    const state = /^\{(\d+)\} perms: (?:none| \(0x ([0-9a-f]+))/.exec(line);
    const step = /^ {4}(?:\[\^?(.*)\]|.*?(0x[0-9a-f]+)) -> \{(\d+)\}/.exec(line);
    if (state !== null) {
      current = { allowed: Number.parseInt(state[2] ?? "0", 16), next: new Map() };
      states.set(state[1] ?? "", current);
    } else if (step !== null && step[2] !== undefined) {
      current.next.set(Number(step[2]), step[3] ?? "");
    } else if (step !== null) {
      current.otherwise = { state: step[3] ?? "", not: step[1] ?? "" };
    } else {
      throw new Error(`Cannot read a line of the parser's states: ${JSON.stringify(line)}`);
    }
  }
  return states;
}

function permissions(states: Automaton, path: string): number {
  let state = states.get(start);
  for (const byte of Buffer.from(path)) {
    const { next, otherwise } = state ?? { next: new Map<number, string>() };
    const isOther = otherwise !== undefined && !otherwise.not.includes(String.fromCharCode(byte));
    state = states.get(next.get(byte) ?? (isOther ? otherwise.state : ""));
  }
  return state?.allowed ?? 0;
}

/** What has no state is not asked about at all, and so not denied. */
function deniesAll(states: Automaton, first: number): boolean {
  const from = states.get(start)?.next.get(first);
  const reached = new Set(from === undefined ? [] : [from]);
  for (const name of reached) {
    const { allowed, next, otherwise } = states.get(name) ?? { allowed: 0, next: new Map<number, string>() };
    if (allowed !== 0) {
      return false;
    }
    for (const each of [...next.values(), ...(otherwise === undefined ? [] : [otherwise.state])]) {
      reached.add(each);
    }
  }
  return from !== undefined;
}
