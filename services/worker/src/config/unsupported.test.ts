import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse } from "smol-toml";
import { readEnvironment } from "./environment.ts";
import { readConfigFile } from "./file.ts";
import { unsupportedSettings } from "./unsupported.ts";

/** What is asked for by each that is warned of, as TOML; and what asks for no more than is so. */
const warnedOf: Readonly<Record<string, readonly [asked: string, met: readonly string[]]>> = {
  'frontend."dockerfile.v0".enabled': ["true", ["false"]],
  'frontend."gateway.v0".enabled': ["true", ["false"]],
  'frontend."gateway.v0".allowedRepositories': ["", ["[]", '["r.example/frontend"]']],
  provenanceEnvDir: ['"/etc/buildkit/provenance.d"', ['""']],
  "cache.gha": ['{ sign = { command = ["x"] } }', ["{}"]],
  "grpc.securityDescriptor": ['"D:P(A;;GA;;;BA)"', ['""']],
};

const warningsOf = (toml: string) => {
  const { unused, warnings } = readConfigFile(parse(toml), "test.toml");
  assert.deepEqual(unused, [], "it is known");
  return warnings;
};

describe("what buildkitd can do and this worker cannot", () => {
  for (const { key, variable, why } of unsupportedSettings) {
    if (key !== undefined) {
      const [asked, met] = warnedOf[key] ?? assert.fail(`${key} has no value here`);
      test(`is warned of by its name where ${key} asks for it, and only there`, () => {
        if (asked !== "") {
          assert.deepEqual(warningsOf(`${key} = ${asked}`), [`${key} of test.toml has no effect: ${why}`]);
        }
        for (const value of met) {
          assert.deepEqual(warningsOf(`${key} = ${value}`), []);
        }
      });
    }
    if (variable !== undefined) {
      test(`is warned of where ${variable} asks for it, and only there`, () => {
        const { warnings } = readEnvironment({ [variable]: "1" });
        assert.deepEqual(warnings, [`${variable} has no effect: ${why}`]);
        assert.deepEqual(readEnvironment({ [variable]: "" }).warnings, []);
        assert.deepEqual(readEnvironment({}).warnings, []);
      });
    }
  }

  test("is meant by what is almost its name", () => {
    const { unused } = readConfigFile(parse('provenanceEnvDirs = "/x"'), "test.toml");
    assert.deepEqual(unused, [{ key: "provenanceEnvDirs", meant: "provenanceEnvDir" }]);
  });
});
