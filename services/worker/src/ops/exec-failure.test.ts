import assert from "node:assert/strict";
import { test } from "node:test";
import { exitFailure } from "./exec-failure.ts";

const exit = (more: object) => ({ code: 0, complaint: "", outOfMemory: false, ...more });
const textOf = (more: object, valid: readonly number[] = []) =>
  exitFailure(["make", "all"], exit(more), valid)?.message;
const prefix = 'process "make all" did not complete successfully: ';

test("a step fails by its exit code, its runtime's complaint and for want of memory", () => {
  assert.equal(textOf({}), undefined);
  assert.equal(textOf({ code: 2 }), `${prefix}exit code: 2`);
  assert.equal(textOf({ code: 137 }), `${prefix}exit code: 137`);
  assert.equal(textOf({ code: 137, outOfMemory: true }), `${prefix}cannot allocate memory: exit code: 137`);
  assert.equal(textOf({ code: 1, complaint: "bad mount" }), `${prefix}bad mount: exit code: 1`);
});

test("a command that cannot be run fails with the code that a shell has for that", () => {
  const codeOf = (complaint: string) => exitFailure(["x"], exit({ code: 1, complaint }), [])?.exitCode;
  assert.equal(codeOf('exec: "x": executable file not found in $PATH'), 127);
  assert.equal(codeOf("executable file `x` not found in $PATH: No such file or directory"), 127);
  assert.equal(codeOf("open `/x`: Permission denied"), 126);
  assert.equal(codeOf("exec /x: exec format error"), 126);
});

test("exit codes that the step says are valid are no failure, and 0 is one if it is not among them", () => {
  assert.equal(textOf({ code: 3 }, [3, 4]), undefined);
  assert.equal(textOf({ code: 0 }, [3, 4]), `${prefix}exit code: 0`);
  assert.equal(textOf({ code: 3, complaint: "no" }, [3]), `${prefix}no: exit code: 3`);
});
