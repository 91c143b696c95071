import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parseFlags } from "./flags.ts";

const description = {
  settingsByFlag: { root: "root", "log-level": "logLevel" },
  switchesByFlag: { "sync-on-commit": "syncOnCommit" },
  questions: ["check"],
  environmentKeys: ["root", "logLevel", "syncOnCommit"],
  environmentPrefix: "OCI_WORKER_TEST_",
  defaultConfigFile: "/etc/test.toml",
};

describe("flags", () => {
  test("say nothing where nothing is said", () => {
    assert.deepEqual(parseFlags(description, [], {}), {
      help: false,
      version: false,
      configFile: "/etc/test.toml",
      configFileNamed: false,
      settings: {},
      questions: new Set(),
    });
  });

  test("name the config file, and ask for help", () => {
    const flags = parseFlags(description, ["--config", "/c.toml", "-h"], {});
    assert.deepEqual([flags.configFile, flags.configFileNamed, flags.help], ["/c.toml", true, true]);
  });

  test("set a switch without a value, either way, above the environment", () => {
    const environment = { OCI_WORKER_TEST_SYNC_ON_COMMIT: "true" };
    assert.equal(parseFlags(description, ["--sync-on-commit"], {}).settings["syncOnCommit"], "true");
    const off = parseFlags(description, ["--no-sync-on-commit"], environment);
    assert.equal(off.settings["syncOnCommit"], "false");
    assert.throws(() => parseFlags(description, ["--sync-on-commit=yes"], {}), InvalidArgumentError);
  });

  test("ask questions", () => {
    assert.deepEqual([...parseFlags(description, ["--check"], {}).questions], ["check"]);
    assert.deepEqual([...parseFlags(description, ["--no-check"], {}).questions], []);
  });

  test("take precedence over the environment, and the environment over nothing", () => {
    const environment = {
      OCI_WORKER_TEST_ROOT: "/environment",
      OCI_WORKER_TEST_LOG_LEVEL: "warn",
      OCI_WORKER_TEST_SYNC_ON_COMMIT: "true",
      OTHER: "x",
    };
    assert.deepEqual(parseFlags(description, ["--root=/flag"], environment).settings, {
      root: "/flag",
      logLevel: "warn",
      syncOnCommit: "true",
    });
  });

  test("take an empty variable as none", () => {
    assert.deepEqual(parseFlags(description, [], { OCI_WORKER_TEST_ROOT: "" }).settings, {});
  });

  test("refuse a variable that sets nothing, naming those that do", () => {
    assert.throws(
      () => parseFlags(description, [], { OCI_WORKER_TEST_ROOTS: "/x" }),
      (error) =>
        error instanceof InvalidArgumentError &&
        /OCI_WORKER_TEST_ROOTS sets nothing, want one of OCI_WORKER_TEST_ROOT, /.test(error.message),
    );
  });

  test("pass over what Kubernetes says of a service with the same name", () => {
    const environment = {
      OCI_WORKER_TEST_PORT: "tcp://10.0.0.1:80",
      OCI_WORKER_TEST_PORT_80_TCP_ADDR: "10.0.0.1",
      OCI_WORKER_TEST_SERVICE_HOST: "10.0.0.1",
      OCI_WORKER_TEST_SERVICE_PORT_GRPC: "80",
    };
    assert.deepEqual(parseFlags(description, [], environment).settings, {});
  });

  test("are refused if they do not exist, lack their value or are none", () => {
    for (const args of [["--rot", "/a"], ["--root"], ["serve"], ["--help=yes"]]) {
      assert.throws(() => parseFlags(description, args, {}), InvalidArgumentError);
    }
  });
});
