import { readFile } from "node:fs/promises";

/** The last error in a runtime's log. It writes one only for a failure of its own, never for one of the process. */
export async function complaintIn(logPath: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(logPath, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      return "";
    }
    throw error;
  }
  return text.split("\n").reduce((last, line) => errorText(line) ?? last, "");
}

function errorText(line: string): string | undefined {
  try {
    const entry: unknown = JSON.parse(line);
    if (
      typeof entry === "object" &&
      entry !== null &&
      "level" in entry &&
      "msg" in entry &&
      entry.level === "error"
    ) {
      return String(entry.msg);
    }
  } catch {
    // A line that the runtime was killed while writing.
  }
  return undefined;
}
