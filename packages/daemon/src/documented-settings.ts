import { readFile } from "node:fs/promises";
import { parse } from "smol-toml";

/**
 * The table of settings in a README, for the test that holds it to the code: each row by the names of the columns, its
 * cells without backticks. It is the table whose first column is called "key".
 */
export async function settingsTable(readme: string): Promise<Record<string, string>[]> {
  const lines = (await readFile(readme, "utf8")).split("\n");
  const head = lines.findIndex((line) => line.startsWith("| key |"));
  if (head < 0) {
    throw new Error(`${readme} has no table of settings, want one whose first column is "key"`);
  }
  const columns = cellsOf(lines[head] ?? "");
  return lines.slice(head + 2, lines.indexOf("", head)).map((line) => {
    const cells = cellsOf(line);
    return Object.fromEntries(columns.map((column, index) => [column, cells[index] ?? ""]));
  });
}

function cellsOf(line: string): string[] {
  return line
    .split("|")
    .map((cell) => cell.trim().replaceAll("`", ""))
    .slice(1, -1);
}

/** What a config file sets when everything in it that is commented out is set, too. */
export async function withCommentedSettings(configFile: string): Promise<Record<string, unknown>> {
  const text = await readFile(configFile, "utf8");
  return parse(text.replace(/^# (\[+[^\]]+\]+|[A-Za-z]+ = .+)$/gm, "$1"));
}

/** The variable of the environment that stands for a key of the config file. */
export function variableFor(prefix: string, key: string): string {
  return prefix + key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}
