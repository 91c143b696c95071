import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parseFlags, usage } from "./flags.ts";

describe("parseFlags", () => {
  test("puts settings under the keys of the config file", () => {
    const args =
      "--root /r --address=/a --snapshotter native --resolver-address /x --log-level debug --sync-on-commit".split(
        " ",
      );
    assert.deepEqual(parseFlags(args, {}).settings, {
      root: "/r",
      address: "/a",
      snapshotter: "native",
      resolverAddress: "/x",
      logLevel: "debug",
      syncOnCommit: "true",
    });
  });

  test("sets nothing that was not given", () => {
    assert.deepEqual(parseFlags([], {}), {
      help: false,
      version: false,
      configFile: "/etc/oci-worker/snapshotter.toml",
      configFileNamed: false,
      settings: {},
      questions: new Set(),
    });
  });

  test("tells a config file that was named from the default one", () => {
    const { configFile, configFileNamed } = parseFlags(["--config", "/c.toml"], {});
    assert.deepEqual([configFile, configFileNamed], ["/c.toml", true]);
  });

  for (const args of [["--nosuch"], ["positional"], ["--root"], ["--help=1"]]) {
    test(`refuses ${args.join(" ")}`, () => {
      assert.throws(() => parseFlags(args, {}), InvalidArgumentError);
    });
  }

  test("explains every flag that it takes", () => {
    for (const flag of [
      "root",
      "address",
      "snapshotter",
      "config",
      "resolver-address",
      "log-level",
      "sync-on-commit",
      "check",
      "repair",
      "json",
      "help",
      "version",
    ]) {
      assert(usage.includes(`--${flag}`), flag);
    }
  });
});
