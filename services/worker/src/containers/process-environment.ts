import { defaultPath } from "../ops/step-environment.ts";

/** Programs for Windows look elsewhere, and behind other separators (BuildKit, util/system/path.go). */
const windowsPath = String.raw`PATH=c:\Windows\System32;c:\Windows`;

/** What a terminal is taken for if nobody says. */
const defaultTerminal = "TERM=xterm";

/**
 * The environment of a process that a client starts: its own, and what it lacks of that.
 *
 * @param os that its container is for.
 */
export function processEnvironment(env: readonly string[], os: string, terminal: boolean): string[] {
  const defaults = [os === "windows" ? windowsPath : defaultPath, ...(terminal ? [defaultTerminal] : [])];
  const has = (name: string) => env.some((variable) => variable.startsWith(`${name}=`));
  return [...env, ...defaults.filter((variable) => !has(variable.slice(0, variable.indexOf("="))))];
}
