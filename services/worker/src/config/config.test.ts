import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parse } from "smol-toml";
import { parseConfig } from "./config.ts";
import { readConfigFile } from "./file.ts";
import { parseCommandLine, usage } from "./flags.ts";
import { settings } from "./settings.ts";

/** The config of a file and a command line. */
function configOf(toml: string, ...args: string[]) {
  return parseConfig(readConfigFile(parse(toml), "test.toml").values, parseCommandLine(args).values);
}

describe("the config", () => {
  test("without file and flags is the documented default", () => {
    const config = configOf("");
    assert.deepEqual(config.addresses, ["/run/oci-worker/worker.sock"]);
    assert.equal(config.root, "/var/lib/oci-worker/worker");
    assert.equal(config.snapshotter, "auto");
    assert.equal(config.enabled, "auto");
    assert.equal(config.sessionSocketPath, "/var/lib/oci-worker/worker/session.sock");
  });

  test("takes the flag over the file and the file over the default", () => {
    const toml =
      'root = "/file"\n[worker.oci]\nsnapshotter = "native"\n[grpc]\naddress = ["unix:///file.sock"]';
    const config = configOf(toml, "--root", "/flag");
    assert.equal(config.root, "/flag");
    assert.equal(config.snapshotter, "native");
    assert.deepEqual(config.addresses, ["/file.sock"]);
  });

  test("merges labels, those of the command line winning", () => {
    const config = configOf(
      '[worker.oci.labels]\na = "file"\nb = "file"',
      "--oci-worker-labels=b=flag",
      "--oci-worker-labels",
      "c=x=y",
    );
    assert.deepEqual(config.labels, { a: "file", b: "flag", c: "x=y" });
  });

  test("reads flags in every spelling of buildkitd's", () => {
    assert.equal(configOf("", "-root=/a").root, "/a");
    assert.equal(configOf("", "--debug").logLevel, "debug");
    assert.equal(configOf("debug = true", "--debug=false").logLevel, "info");
    assert.equal(configOf("", "--oci-worker", "true").enabled, true);
    assert.equal(configOf("[worker.oci]\nenabled = false").enabled, false);
    assert.deepEqual(configOf("", "--addr", "unix:///a", "--addr=/b").addresses, ["/a", "/b"]);
    configOf("", "--containerd-worker=false");
  });

  const wrong: readonly {
    readonly name: string;
    readonly toml?: string;
    readonly args?: string[];
    readonly message: RegExp;
  }[] = [
    {
      name: "an unknown flag",
      args: ["--oci-worker-snapshoter", "native"],
      message: /--oci-worker-snapshoter/,
    },
    { name: "a flag without its value", args: ["--root"], message: /--root.*no value/ },
    { name: "an argument that is no flag", args: ["start"], message: /"start"/ },
    {
      name: "an unknown snapshotter",
      args: ["--oci-worker-snapshotter", "x"],
      message: /unknown snapshotter name: "x"/,
    },
    {
      name: "an unknown entitlement",
      args: ["--allow-insecure-entitlement", "x"],
      message: /invalid entitlement "x"/,
    },
    { name: "an unknown network", args: ["--oci-worker-net", "x"], message: /invalid network mode: "x"/ },
    {
      name: "an unknown platform",
      args: ["--oci-worker-platform", "a/b/c/d"],
      message: /invalid platforms: /,
    },
    { name: "a label without a value", args: ["--oci-worker-labels", "x"], message: /invalid value "x"/ },
    {
      name: "an address without scheme",
      args: ["--addr", "x.sock"],
      message: /address x\.sock does not contain proto, you meant unix:\/\/x\.sock \?/,
    },
    {
      name: "an address of another kind",
      args: ["--addr", "tcp://0.0.0.0:1"],
      message: /tcp:\/\/0\.0\.0\.0:1: want unix/,
    },
    { name: "an empty list of addresses", toml: "[grpc]\naddress = []", message: /--addr cannot be empty/ },
    {
      name: "a socket path that is too long",
      args: ["--addr", `/${"x".repeat(120)}`],
      message: /at most 107 bytes/,
    },
    {
      name: "a proxy path with a scheme",
      args: ["--oci-worker-proxy-snapshotter-path", "unix:///s"],
      message: /Do not include 'unix:\/\/' prefix/,
    },
    { name: "a relative root", args: ["--root", "x"], message: /want an absolute path/ },
    { name: "the containerd worker", args: ["--containerd-worker=true"], message: /containerd worker/ },
    {
      name: "a value of the wrong type",
      toml: "root = 5",
      message: /test\.toml: root is of the wrong type, want a text/,
    },
    { name: "a registry that is no table", toml: "registry = 5", message: /registry is no table/ },
  ];
  for (const { name, toml = "", args = [], message } of wrong) {
    test(`refuses ${name}`, () => {
      assert.throws(
        () => configOf(toml, ...args),
        (error) => {
          assert(error instanceof InvalidArgumentError);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }

  test("names the keys of a file that nothing reads, and leaves the registries to the resolver", () => {
    const toml =
      '[worker.oci]\nsnapshoter = "x"\ngc = true\n[worker.oci.labels]\na = "b"\n[registry."r"]\nhttp = true\nhtp = true\n[x.y]\nz = 1';
    const { unused, registry } = readConfigFile(parse(toml), "test.toml");
    assert.deepEqual(unused, ["worker.oci.snapshoter", "worker.oci.gc", "x.y.z", 'registry."r".htp']);
    assert.equal(JSON.stringify(registry), '{"r":{"http":true}}');
  });

  test("is explained by --help, every flag of it", () => {
    for (const { flag } of Object.values(settings)) {
      assert(flag === undefined || usage().includes(`--${flag}`), `--${flag} is not there`);
    }
  });
});
