/** Signs that a tree is drawn with. */
export interface Symbols {
  readonly done: string;
  readonly failed: string;
  readonly canceled: string;
  readonly spinner: readonly string[];
  readonly barFull: string;
  readonly barEmpty: string;
  readonly branch: string;
  readonly lastBranch: string;
  /** Leads past a branch to the next one. */
  readonly trunk: string;
  readonly ellipsis: string;
}

const unicode: Symbols = {
  done: "✔",
  failed: "✘",
  canceled: "–",
  spinner: ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"],
  barFull: "━",
  barEmpty: "─",
  branch: "├",
  lastBranch: "└",
  trunk: "│",
  ellipsis: "…",
};

const ascii: Symbols = {
  done: "+",
  failed: "x",
  canceled: "-",
  spinner: ["|", "/", "-", "\\"],
  barFull: "=",
  barEmpty: ".",
  branch: "|",
  lastBranch: "`",
  trunk: "|",
  ellipsis: "..",
};

/** Signs that a terminal with this environment can show: the first of these that is set says the character set. */
export function symbolsFor(environment: NodeJS.ProcessEnv): Symbols {
  const locale = environment["LC_ALL"] || environment["LC_CTYPE"] || environment["LANG"] || "";
  return /utf-?8/i.test(locale) ? unicode : ascii;
}

/** What a piece of text means; how it looks follows from that. */
export type Role = "title" | "done" | "cached" | "failed" | "running" | "faint";

/** Shows that a text has a role. */
export type Paint = (role: Role, text: string) => string;

/** Parameters of SGR (ECMA-48, 8.3.117). */
const parameters: Readonly<Record<Role, string>> = {
  title: "1",
  done: "32",
  cached: "36",
  failed: "31",
  running: "33",
  faint: "2",
};

/** Colours, unless the environment says that there should be none (no-color.org). */
export function paintFor(environment: NodeJS.ProcessEnv): Paint {
  return environment["NO_COLOR"] || environment["TERM"] === "dumb"
    ? (_role, text) => text
    : (role, text) => `\x1b[${parameters[role]}m${text}\x1b[0m`;
}
