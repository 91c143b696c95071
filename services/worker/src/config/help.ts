import { defaultConfigFile } from "./paths.ts";
import type { Setting } from "./setting.ts";
import { groups } from "./settings.ts";
import { defaultText } from "./show.ts";

/** Where the explanations begin, and where the text ends, in columns. */
const helpColumn = 34;
const maxColumns = 100;

/**
 * The text of --help.
 *
 * @param columns of the terminal.
 */
export function usage(columns = 80): string {
  const width = Math.min(maxColumns, Math.max(helpColumn + 30, columns));
  const sections = groups.flatMap(({ title, settings }) => {
    const rows = Object.values(settings).flatMap((setting) => row(setting, width));
    return rows.length === 0 ? [] : ["", `${title}:`, ...rows];
  });
  return [
    "Usage: oci-worker [OPTION]...",
    "",
    ...wrap(
      "BuildKit's OCI worker: serves the Control API that buildctl and docker buildx speak. Started without a snapshotter or a resolver to use, it runs its own, with sockets in its root, for as long as it runs itself.",
      width,
    ),
    "",
    "Questions and file:",
    ...option(
      "--config FILE",
      `buildkitd.toml to read (default: ${defaultConfigFile}, if it is there)`,
      width,
    ),
    ...option("--help, -h", "show this text", width),
    ...option("--version, -v", "show the version", width),
    ...option("--print-config", "show every setting, its value and where that comes from", width),
    ...sections,
    "",
    "Only in the environment:",
    ...groups.flatMap(({ settings }) => Object.values(settings).flatMap((each) => variableRow(each, width))),
    "",
    ...wrap(
      "A flag that takes no value means yes, and no with =false behind it. A flag is stronger than the environment, that is stronger than the file. --print-config also shows the keys that only the file has.",
      width,
    ),
    "",
  ].join("\n");
}

/** Of a setting that a variable alone has. */
function variableRow(setting: Setting, width: number): string[] {
  const { flag, key, variable, help } = setting;
  if (variable === undefined || flag !== undefined || key !== undefined) {
    return [];
  }
  const fallback = defaultText(setting);
  return option(`$${variable}`, fallback === undefined ? help : `${help} (default: ${fallback})`, width);
}

function row(setting: Setting, width: number): string[] {
  const { flag, kind, help, variable } = setting;
  if (flag === undefined) {
    return [];
  }
  const isRepeated = kind.append !== undefined;
  const fallback = defaultText(setting);
  const remarks = [
    ...(isRepeated ? ["may be repeated"] : []),
    ...(variable === undefined ? [] : [`also $${variable}`]),
    ...(fallback === undefined ? [] : [`default: ${fallback}`]),
  ];
  const explanation = remarks.length === 0 ? help : `${help} (${remarks.join("; ")})`;
  return option(kind.operand === undefined ? `--${flag}` : `--${flag} ${kind.operand}`, explanation, width);
}

/** An option and its explanation beside it, or beneath it if there is no room. */
function option(name: string, explanation: string, width: number): string[] {
  const [first = "", ...others] = wrap(explanation, width - helpColumn);
  const indent = " ".repeat(helpColumn);
  const fits = name.length + 4 <= helpColumn;
  const head = fits ? [`  ${name}`.padEnd(helpColumn) + first] : [`  ${name}`, indent + first];
  return [...head, ...others.map((line) => indent + line)];
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else {
      lines.push(word);
    }
  }
  return lines;
}
