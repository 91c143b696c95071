import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { imageProcess, type ProcessFlags, unknownConfig } from "./image-process.ts";

const noFlags: ProcessFlags = {
  command: undefined,
  entrypoint: undefined,
  env: [],
  workdir: undefined,
  user: undefined,
};
const config = {
  entrypoint: ["/entry"],
  cmd: ["default"],
  env: ["PATH=/bin", "A=1", "B=2"],
  workingDir: "/home",
  user: "web",
};

describe("imageProcess runs", () => {
  const cases: [what: string, image: object, flags: Partial<ProcessFlags>, args: string[]][] = [
    ["entrypoint and command of the image", {}, {}, ["/entry", "default"]],
    ["the image's entrypoint with the words given", {}, { command: ["x", "y"] }, ["/entry", "x", "y"]],
    ["another entrypoint without the image's command", {}, { entrypoint: "/other" }, ["/other"]],
    ["another entrypoint with the words given", {}, { entrypoint: "/o", command: ["x"] }, ["/o", "x"]],
    ["the words alone if the entrypoint is emptied", {}, { entrypoint: "", command: ["x"] }, ["x"]],
    ["the image's command if it has no entrypoint", { entrypoint: [] }, {}, ["default"]],
  ];
  for (const [what, image, flags, args] of cases) {
    test(what, () => {
      assert.deepEqual(imageProcess({ ...config, ...image }, { ...noFlags, ...flags }).args, args);
    });
  }
});

test("variables of the command line take the places of the image's, new ones follow", () => {
  const { env } = imageProcess(config, { ...noFlags, env: ["A=x=y", "C=3", "C=4"] });
  assert.deepEqual(env, ["PATH=/bin", "A=x=y", "B=2", "C=4"]);
});

test("directory and user are the image's unless the command line says them", () => {
  const given = imageProcess(config, { ...noFlags, workdir: "/tmp", user: "0" });
  assert.deepEqual([given.cwd, given.user], ["/tmp", "0"]);
  const own = imageProcess(config, noFlags);
  assert.deepEqual([own.cwd, own.user], ["/home", "web"]);
  const none = imageProcess({ ...config, workingDir: "" }, noFlags);
  assert.equal(none.cwd, "/");
});

test("an image without a command wants one", () => {
  assert.throws(
    () => imageProcess(unknownConfig, noFlags),
    /it has no command of its own, want one after "--"/,
  );
});
