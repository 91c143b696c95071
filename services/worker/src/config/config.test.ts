import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parse } from "smol-toml";
import { resolveConfig } from "./config.ts";
import { readEnvironment } from "./environment.ts";
import { readConfigFile } from "./file.ts";
import { parseCommandLine } from "./flags.ts";
import { usage } from "./help.ts";
import { printConfig } from "./print-config.ts";
import { allSettings, groups, type SettingName } from "./settings.ts";

/** The config of a file, an environment and a command line. */
function resolved(toml: string, args: readonly string[] = [], environment: NodeJS.ProcessEnv = {}) {
  return resolveConfig(
    readConfigFile(parse(toml), "test.toml").layer,
    readEnvironment(environment).layer,
    parseCommandLine(args).layer,
  );
}

function configOf(toml: string, ...args: string[]) {
  return resolved(toml, args).config;
}

describe("the config", () => {
  test("without file and flags is the documented default", () => {
    const config = configOf("");
    assert.deepEqual(config.addresses, ["unix:///run/oci-worker/worker.sock"]);
    assert.equal(config.root, "/var/lib/oci-worker/worker");
    assert.equal(config.snapshotter, "auto");
    assert.equal(config.enabled, "auto");
    assert.equal(config.sessionSocketPath, "/var/lib/oci-worker/worker/session.sock");
  });

  test("takes the flag over the environment, that over the file, and the file over the default", () => {
    const toml =
      'root = "/file"\n[worker.oci]\nsnapshotter = "native"\n[log]\nlevel = "warn"\n[grpc]\naddress = ["unix:///file.sock"]';
    const environment = { BUILDKITD_LOG_LEVEL: "error" };
    const { config, origins } = resolved(toml, ["--root", "/flag"], environment);
    assert.equal(config.root, "/flag");
    assert.equal(config.snapshotter, "native");
    assert.equal(config.logLevel, "error");
    assert.equal(resolved(toml, ["--log-level=warning"], environment).config.logLevel, "warn");
    assert.deepEqual(config.addresses, ["unix:///file.sock"]);
    const originOf = (name: SettingName) => origins.get(name);
    assert.equal(originOf("root"), "--root");
    assert.equal(originOf("snapshotter"), "worker.oci.snapshotter of test.toml");
    assert.equal(originOf("logLevel"), "BUILDKITD_LOG_LEVEL");
    assert.equal(originOf("group"), "default");
  });

  test("merges labels, those of the command line winning", () => {
    const toml = '[worker.oci.labels]\na = "file"\nb = "file"';
    const args = ["--oci-worker-labels=b=flag", "--oci-worker-labels", "c=x=y"];
    const { config, origins } = resolved(toml, args);
    assert.deepEqual(config.labels, { a: "file", b: "flag", c: "x=y" });
    assert.equal(origins.get("labels"), "worker.oci.labels of test.toml and --oci-worker-labels");
  });

  test("reads flags in every spelling of buildkitd's", () => {
    assert.equal(configOf("", "-root=/a").root, "/a");
    assert.equal(configOf("", "--debug").logLevel, "debug");
    assert.equal(configOf("", "--log-level=Warning").logLevel, "warn");
    assert.equal(configOf('[log]\nlevel = "TRACE"').logLevel, "trace");
    assert.equal(configOf("debug = true", "--debug=false").logLevel, "info");
    assert.equal(configOf("debug = true", "--trace", "--log-level=warn").logLevel, "trace");
    assert.equal(configOf("", "--oci-worker", "true").enabled, true);
    assert.equal(configOf("[worker.oci]\nenabled = false").enabled, false);
    assert.deepEqual(configOf("", "--addr", "unix:///a", "--addr=/b", "--addr=/a").addresses, [
      "unix:///a",
      "unix:///b",
    ]);
  });

  test("takes what scripts for buildkitd say of its other worker, and only looks whether it is off", () => {
    const args = ["--containerd-worker=false", "--containerd-worker-gc", "--containerd-worker-net", "host"];
    configOf("", ...args, "--containerd-cni-pool-size=3");
    const toml =
      '[worker.containerd]\nenabled = false\naddress = "/x"\n[[worker.containerd.gcpolicy]]\nall = true';
    assert.deepEqual(readConfigFile(parse(toml), "test.toml").unused, []);
    assert.throws(() => configOf("", "--containerd-worker"), InvalidArgumentError);
  });

  test("takes an empty text for what is not set", () => {
    const config = configOf('[worker.oci]\nproxySnapshotterPath = ""', "--group=", "--oci-worker-net=");
    assert.equal(config.proxySnapshotterPath, undefined);
    assert.equal(config.group, undefined);
    assert.equal(config.networkMode, "auto");
  });
});

describe("keys of a file that nothing reads", () => {
  test("are named with what may have been meant, and the registries are left to the resolver", () => {
    const toml =
      '[worker.oci]\nsnapshoter = "x"\n[worker.oci.labels]\na = "b"\n[registry."r"]\nhttp = true\nhtp = true\n[x.y]\nz = 1\nnameserver = []';
    const { unused, registry } = readConfigFile(parse(toml), "test.toml");
    assert.deepEqual(unused, [
      { key: "worker.oci.snapshoter", meant: "worker.oci.snapshotter" },
      { key: "x.y.z", meant: undefined },
      { key: "x.y.nameserver", meant: undefined },
      { key: 'registry."r".htp', meant: "http" },
    ]);
    assert.equal(JSON.stringify(registry), '{"r":{"http":true}}');
  });

  test("are guessed in another table, too", () => {
    const { unused } = readConfigFile(parse('snapshotter = "native"'), "test.toml");
    assert.deepEqual(unused, [{ key: "snapshotter", meant: "worker.oci.snapshotter" }]);
  });
});

describe("--help", () => {
  test("explains every flag, in lines that fit", () => {
    for (const columns of [20, 80, 100, 300]) {
      const text = usage(columns);
      for (const [name, { flag }] of allSettings) {
        assert(flag === undefined || text.includes(`  --${flag}`), `--${flag} of ${name} is not there`);
      }
      const longest = Math.max(...text.split("\n").map((line) => line.length));
      assert(longest <= Math.min(100, Math.max(columns, 72)), `a line has ${longest} columns of ${columns}`);
    }
  });

  test("has every setting under one heading", () => {
    const grouped = groups.flatMap((group) => Object.keys(group.settings));
    assert.deepEqual(grouped.toSorted(), allSettings.map(([name]) => name).toSorted());
  });
});

describe("--print-config", () => {
  const file = { path: "test.toml", isThere: true };
  const toml =
    '[worker.oci]\nlabels = { a = "b \\"c\\"", "d.e" = "é" }\nplatforms = ["linux/arm64"]\n[registry."a.example:5000"]\nmirrors = ["m"]';

  test("shows values and where they come from", () => {
    const text = printConfig(resolved(toml, ["--debug", "--group=5"]), {}, file);
    assert.match(text, /^platforms = \["linux\/arm64"\] +# worker\.oci\.platforms of the file$/m);
    assert.match(text, /^level = "debug" +# --debug$/m);
    assert.match(text, /^gid = 5 +# --group$/m);
    assert.match(text, /^# --session-address = .* +# default$/m);
    assert.doesNotMatch(text, /undefined/);
    assert.match(text, /^# binary is not set: the first of buildkit-runc and runc +# default$/m);
    assert.match(text, /^# File: test\.toml$/m);
  });

  test("has the origins of all lines beneath each other, but for those that are too long", () => {
    const columns = printConfig(resolved(`root = "/${"x".repeat(80)}"`), {}, file)
      .split("\n")
      .map((line) => line.lastIndexOf("  # "))
      .filter((column) => column > 0);
    const least = Math.min(...columns);
    assert.equal(columns.filter((column) => column > least).length, 3, "root, and the two sockets in it");
  });

  test("says what starting would warn of, and that a file is not there", () => {
    const text = printConfig(resolved(""), {}, { path: "/no.toml", isThere: false }, ["a is odd"]);
    assert.match(text, /^# File: none, as \/no\.toml is not there$/m);
    assert.match(text, /^# Warnings:\n# - a is odd\n$/m);
    assert.deepEqual(readConfigFile(parse(text), "printed.toml").unused, []);
  });

  test("is a file that says the same", () => {
    const first = readConfigFile(parse(toml), "test.toml");
    const before = resolveConfig(first.layer);
    const printed = printConfig(before, first.registry, file);
    const second = readConfigFile(parse(printed), "printed.toml");
    assert.deepEqual(second.unused, []);
    assert.deepEqual(second.registry, first.registry);
    assert.deepEqual(resolveConfig(second.layer).config, before.config);
  });
});
