import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Setting } from "./setting.ts";
import { allSettings } from "./settings.ts";
import { defaultText } from "./show.ts";
import { unsupportedSettings } from "./unsupported.ts";

const readme = join(import.meta.dirname, "../../README.md");

/** The row of a setting in the README's table: key, flag, default, and what it is. */
function rowOf(setting: Setting): string {
  const { key, flag, variable, former = [], help, unset, kind } = setting;
  const fallback = defaultText(setting) ?? "";
  const isRepeated = flag !== undefined && kind.append !== undefined;
  const remarks = [
    help,
    ...(isRepeated ? ["repeated"] : []),
    ...(variable === undefined ? [] : [`also ${code(variable)}`]),
    ...former.map(
      ({ flag: old, key: oldKey = "" }) => `formerly ${code(old === undefined ? oldKey : `--${old}`)}`,
    ),
  ];
  const cells = [
    code(key ?? ""),
    code(flag === undefined ? "" : `--${flag}`),
    unset === undefined ? code(fallback) : fallback,
    remarks.join("; ").replaceAll("|", "\\|"),
  ];
  return `|${cells.map((cell) => (cell === "" ? " " : ` ${cell} `)).join("|")}|`;
}

function code(text: string): string {
  return text === "" ? "" : `\`${text}\``;
}

test("the README tells what becomes of what buildkitd can do and this worker cannot", async () => {
  const lines = (await readFile(readme, "utf8")).split("\n");
  const head = lines.indexOf("| key or variable | why |");
  assert(head >= 0, "it has no table of it");
  const rows = lines.slice(head + 2, lines.indexOf("", head));
  const wanted = unsupportedSettings.map(({ key, variable, why }) => {
    const names = [key, variable].filter((name) => name !== undefined);
    return `| ${names.map(code).join(", ")} | ${why} |`;
  });
  assert.equal(rows.join("\n"), wanted.join("\n"));
});

test("the README has the settings as they are, in the order of --help", async () => {
  const lines = (await readFile(readme, "utf8")).split("\n");
  const head = lines.indexOf("| key | flag | default | |");
  assert(head >= 0, "it has no table of settings");
  const rows = lines.slice(head + 2, lines.indexOf("", head));
  assert.equal(rows.join("\n"), allSettings.map(([, setting]) => rowOf(setting)).join("\n"));
});
