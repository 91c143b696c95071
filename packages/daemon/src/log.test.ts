import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { createLog } from "./log.ts";
import { logText } from "./log-text.ts";

/** What a program writes that logs by `calls`. */
async function written(format: string, calls: string): Promise<string> {
  const log = pathToFileURL(join(import.meta.dirname, "log.ts")).href;
  const script = `const { createLog } = await import(${JSON.stringify(log)}); const log = createLog("test", "info", "${format}"); ${calls}`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
  return stdout;
}

const calls = `log.debug("unheard"); log.warn({ path: "/a b", count: 2, code: "OK" }, "first"); log.info("second");`;

describe("a log", () => {
  test("is JSON, an object a line", async () => {
    const [first, second] = (await written("json", calls))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      { ...first, time: 0 },
      { level: 40, time: 0, name: "test", path: "/a b", count: 2, code: "OK", msg: "first" },
    );
    assert.equal(second.msg, "second");
  });

  test("is text for people, if that is wanted", async () => {
    const lines = (await written("text", calls)).split("\n");
    assert.match(
      lines[0] ?? "",
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARN {2}test first path="\/a b" count=2 code=OK$/,
    );
    assert.match(lines[1] ?? "", /Z INFO {2}test second$/);
    assert.equal(lines.length, 3);
  });

  test("shows the stack of an error, and lets no value begin a line", () => {
    const line = {
      level: 50,
      time: 0,
      name: "n",
      msg: "failed",
      err: { stack: "Error: x\n    at y" },
      value: "a\nb=c",
    };
    assert.equal(
      logText(JSON.stringify(line)),
      '1970-01-01T00:00:00.000Z ERROR n failed value="a\\nb=c"\n    Error: x\n        at y\n',
    );
  });

  test("has no level and no format of another name", () => {
    assert.throws(() => createLog("test", "loud"), InvalidArgumentError);
    assert.throws(() => createLog("test", "info", "xml"), /"xml": want one of json, text/);
  });
});
