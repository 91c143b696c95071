/** pino's numbers of the levels. */
const levelNames: ReadonlyMap<unknown, string> = new Map([
  [10, "TRACE"],
  [20, "DEBUG"],
  [30, "INFO"],
  [40, "WARN"],
  [50, "ERROR"],
  [60, "FATAL"],
]);

/**
 * A line of the log for people: time, level, who says it, what, and the fields as `name=value`. The stack of an error
 * follows on lines of its own.
 *
 * @param json one line as pino writes it.
 */
export function logText(json: string): string {
  const { level, time, name, msg, err, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const words = [
    new Date(Number(time)).toISOString(),
    (levelNames.get(level) ?? String(level)).padEnd(5),
    String(name),
    ...(msg === undefined ? [] : [String(msg)]),
    ...Object.entries(fields).map(([field, value]) => `${field}=${valueText(value)}`),
  ];
  return `${[words.join(" "), ...errorLines(err)].join("\n")}\n`;
}

/** Bare where that is clear, else as JSON: no value can pretend to be another field, or another line. */
function valueText(value: unknown): string {
  return typeof value === "string" && /^[\w./:@+-]+$/.test(value) ? value : JSON.stringify(value);
}

function errorLines(err: unknown): string[] {
  if (err === undefined) {
    return [];
  }
  const { stack, message } = err as { readonly stack?: unknown; readonly message?: unknown };
  return String(stack ?? message ?? JSON.stringify(err))
    .split("\n")
    .map((line) => `    ${line}`);
}
