import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FailedPreconditionError, InvalidArgumentError } from "@oci-worker/errdefs";
import { parse } from "smol-toml";
import { resolveConfig } from "./config.ts";
import { readConfigFile } from "./file.ts";
import { parseCommandLine } from "./flags.ts";
import {
  configFileOf,
  requireMappedRoot,
  requireUserNamespace,
  rootlessDefaults,
  type Standing,
} from "./rootless.ts";

const root: Standing = {
  isInUserNamespace: false,
  uid: 0,
  environment: { USER: "alice", HOME: "/home/alice" },
  appArmor: { restrictsUserNamespaces: false, profile: "" },
};
const mappedRoot: Standing = { ...root, isInUserNamespace: true };

function configOf(standing: Standing, args: readonly string[] = [], toml = "") {
  const file = readConfigFile(parse(toml), "test.toml").layer;
  return resolveConfig(rootlessDefaults(standing), file, parseCommandLine(args).layer);
}

describe("a user's own worker, in a user namespace,", () => {
  test("is rootless and has its places in the user's directories", () => {
    const { config, origins } = configOf(mappedRoot);
    assert.equal(config.isRootless, true);
    assert.equal(config.root, "/home/alice/.local/share/oci-worker/worker");
    assert.equal(config.cniConfigPath, "/home/alice/.config/buildkit/cni.json");
    assert.deepEqual(config.addresses, ["unix:///run/oci-worker/worker.sock"]);
    assert.equal(origins.get("root"), "default in a user namespace");
    assert.equal(configFileOf(mappedRoot), "/home/alice/.config/buildkit/buildkitd.toml");
  });

  test("goes by the XDG variables, the first directory of each", () => {
    const xdg: Standing = {
      ...mappedRoot,
      environment: {
        ...mappedRoot.environment,
        XDG_DATA_HOME: "/data:/other",
        XDG_CONFIG_HOME: "/config",
        XDG_RUNTIME_DIR: "/run/user/1000",
      },
    };
    const { config } = configOf(xdg);
    assert.equal(config.root, "/data/oci-worker/worker");
    assert.deepEqual(config.addresses, ["unix:///run/user/1000/oci-worker/worker.sock"]);
    assert.equal(configFileOf(xdg), "/config/buildkit/buildkitd.toml");
  });

  test("has root's places where it is root's, as in a container", () => {
    for (const environment of [{ USER: "root", HOME: "/root" }, { HOME: "/home/alice" }, { USER: "alice" }]) {
      const { config } = configOf({ ...mappedRoot, environment });
      assert.equal(config.isRootless, true);
      assert.equal(config.root, "/var/lib/oci-worker/worker");
    }
  });

  test("uses the host's network unless it is told otherwise", () => {
    assert.equal(configOf(mappedRoot).config.networkMode, "host");
    assert.equal(configOf(mappedRoot, ["--oci-worker-net=bridge"]).config.networkMode, "bridge");
    assert.equal(configOf(root).config.networkMode, "auto");
  });

  test("can be told that it is none, the narrower flag winning", () => {
    assert.equal(configOf(mappedRoot, ["--rootless=false"]).config.isRootless, false);
    assert.equal(configOf(mappedRoot, [], "[worker.oci]\nrootless = false").config.isRootless, false);
    const both = ["--rootless=false", "--oci-worker-rootless"];
    assert.equal(configOf(mappedRoot, both).config.isRootless, true);
  });

  test("may do without a sandbox for processes, which others may not", () => {
    const args = ["--oci-worker-no-process-sandbox"];
    assert.equal(configOf(mappedRoot, args).config.noProcessSandbox, true);
    assert.throws(
      () => configOf(root, args),
      (error) => {
        assert(error instanceof InvalidArgumentError);
        assert.match(error.message, /^can't enable NoProcessSandbox without Rootless/);
        return true;
      },
    );
  });
});

describe("a worker", () => {
  const check = (args: readonly string[], standing: Standing) => {
    requireMappedRoot(parseCommandLine(args), standing);
    requireUserNamespace(configOf(standing, args).config, standing);
  };
  const refused = (args: readonly string[], standing: Standing) =>
    assert.throws(
      () => check(args, standing),
      (error) => {
        assert(error instanceof FailedPreconditionError);
        assert.equal(
          error.message,
          "rootless mode requires to be executed as the mapped root in a user namespace; you may use RootlessKit for setting up the namespace",
        );
        return true;
      },
    );

  test("is not run by a user who is not root, whether in a user namespace or not", () => {
    refused([], { ...root, uid: 1000 });
    refused([], { ...mappedRoot, uid: 1000 });
  });

  test("is not told to be rootless, or not to be, outside of a user namespace", () => {
    refused(["--oci-worker-rootless"], root);
    refused(["--oci-worker-rootless=false"], root);
    refused(["--rootless"], root);
    check(["--oci-worker-rootless"], mappedRoot);
    check(["--rootless=false"], root);
    check([], root);
  });

  test("says so where AppArmor is why there is no user namespace, or none to be used", () => {
    const restricting = { restrictsUserNamespaces: true, profile: "" };
    assert.throws(
      () => check([], { ...root, uid: 1000, appArmor: restricting }),
      /^FailedPreconditionError: rootless mode requires .*\(kernel\.apparmor_restrict_unprivileged_userns is 1\): want a profile/,
    );
    check([], { ...root, appArmor: restricting });
    check([], { ...mappedRoot, appArmor: { ...restricting, profile: "rootlesskit" } });
    assert.throws(
      () => check([], { ...mappedRoot, appArmor: { ...restricting, profile: "unprivileged_userns" } }),
      /^FailedPreconditionError: Cannot run in this user namespace: AppArmor denies it every capability/,
    );
  });
});
