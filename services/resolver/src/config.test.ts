import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { defaults, parseConfig } from "./config.ts";
import { defaultDockerConfig, parseFlags } from "./flags.ts";

describe("parseConfig", () => {
  test("an empty file means the defaults", () => {
    assert.deepEqual(parseConfig({}), defaults);
  });

  test("takes what is set", () => {
    const config = parseConfig({
      address: "unix:///run/a.sock",
      sessionAddress: "/run/b.sock",
      dockerConfig: "/etc/docker.json",
      hostsDir: "/etc/certs.d/",
      keychains: ["docker-config", "session"],
      tokenTimeoutMs: 1,
      registry: { "r.example": { http: true } },
    });
    assert.deepEqual(
      [config.address, config.sessionAddress, config.dockerConfig, config.keychains, config.tokenTimeoutMs],
      ["/run/a.sock", "/run/b.sock", "/etc/docker.json", ["docker-config", "session"], 1],
    );
    assert.equal(config.registry.get("r.example")?.http, true);
    assert.equal(config.hostsDir, "/etc/certs.d");
    assert.equal(parseConfig({ hostsDir: "" }).hostsDir, undefined);
  });

  test("names the key that it cannot use", () => {
    const cases = [
      [{ adress: "/x" }, /unknown key "adress", want address \(or/],
      [{ toString: "/x" }, /unknown key "toString"/],
      [{ address: "run/x.sock" }, /address is "run\/x\.sock", want an absolute path/],
      [{ sessionAddress: `/${"x".repeat(107)}` }, /sessionAddress is .* at most 107 bytes/],
      [{ dockerConfig: "config.json" }, /dockerConfig is "config\.json", want an absolute path/],
      [{ hostsDir: "certs.d" }, /hostsDir is "certs\.d", want an absolute path/],
      [{ keychains: 1 }, /keychains is 1, want a list/],
      [
        { keychains: ["session", "kubernets"] },
        /want a list of different names out of session, docker-config, kubernetes, static/,
      ],
      [{ keychains: ["session", "session"] }, /want a list of different names/],
      [{ tokenTimeoutMs: 0 }, /tokenTimeoutMs is 0, want a whole number/],
      [{ drainTimeoutMs: 1.5 }, /drainTimeoutMs is 1\.5/],
      [{ logLevel: "" }, /logLevel is ""/],
      [{ registry: { r: { mirrors: [1] } } }, /registry\."r"\.mirrors/],
    ] as const;
    for (const [raw, message] of cases) {
      assert.throws(
        () => parseConfig(raw),
        (error) => error instanceof InvalidArgumentError && message.test(error.message),
      );
    }
  });
});

describe("parseFlags", () => {
  test("lays what is set over the file", () => {
    const flags = parseFlags(["--address", "/a", "--session-address=/b", "--log-level", "debug"], {});
    assert.deepEqual(flags.settings, { address: "/a", sessionAddress: "/b", logLevel: "debug" });
    assert.equal(flags.configFileNamed, false);
    const environment = { OCI_WORKER_RESOLVER_KEYCHAINS: "docker-config,session" };
    assert.deepEqual(parseConfig(parseFlags([], environment).settings).keychains, [
      "docker-config",
      "session",
    ]);
    assert.deepEqual(parseFlags(["--config", "/c"], {}), {
      help: false,
      version: false,
      configFile: "/c",
      configFileNamed: true,
      questions: new Set(),
      settings: {},
    });
  });

  test("refuses what it does not know", () => {
    for (const args of [["--adress", "/a"], ["--address"], ["serve"]]) {
      assert.throws(() => parseFlags(args, {}), InvalidArgumentError);
    }
  });
});

test("the docker config is where docker has it", () => {
  assert.equal(defaultDockerConfig({ DOCKER_CONFIG: "/x" }), "/x/config.json");
  assert.match(defaultDockerConfig({}), /\/\.docker\/config\.json$/);
});
