import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { settingsTable, variableFor, withCommentedSettings } from "@oci-worker/daemon/documented-settings";
import { loadConfig } from "@oci-worker/daemon/load-config";
import { type Config, defaults, parseConfig } from "./config.ts";
import { parseFlags, usage } from "./flags.ts";

const defaultFile = join(import.meta.dirname, "../../../deploy/config/snapshotter.toml");
const readme = join(import.meta.dirname, "../README.md");

const keys = Object.keys(defaults) as (keyof Config)[];

/** Keys of an object without those that have no value. */
function withValues(config: Config): Record<string, unknown> {
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
}

/** A value as a variable of the environment says it. */
function inEnvironment(value: unknown): string {
  return Array.isArray(value) ? value.join(",") : String(value);
}

describe("deploy/config/snapshotter.toml", () => {
  test("says what the program goes by without it, key by key", async () => {
    const table = await loadConfig(defaultFile, true);
    assert.deepEqual({ ...table }, withValues(defaults));
    assert.deepEqual(parseConfig(table), defaults);
  });

  test("shows every key that has no default as a comment, and these are good", async () => {
    const table = await withCommentedSettings(defaultFile);
    assert.deepEqual(Object.keys(table).sort(), keys.toSorted());
    const config = parseConfig(table);
    for (const key of keys) {
      assert.deepEqual(config[key], defaults[key] ?? table[key]);
    }
  });
});

describe("the README", () => {
  test("has a row for every setting, with its default", async () => {
    const wanted = keys.map((key) => {
      const value = defaults[key];
      const isNone = value === undefined || (Array.isArray(value) && value.length === 0);
      return [key, isNone ? "none" : inEnvironment(value)];
    });
    assert.deepEqual(
      (await settingsTable(readme)).map(({ key, default: fallback }) => [key, fallback]),
      wanted,
    );
  });

  test("names for each setting the flag that sets it, and for none another one", async () => {
    for (const { key = "", flag = "" } of await settingsTable(readme)) {
      const name = /^--([a-z-]+)$/.exec(flag)?.[1];
      if (name === undefined) {
        assert.equal(flag, "", `the flag of ${key}`);
        const own = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
        assert(!usage.includes(`--${own} `), `${key} has a flag that the README does not name`);
        continue;
      }
      assert(usage.includes(`  --${name} `), `--help explains --${name}`);
      const isSwitch = typeof defaults[key as keyof Config] === "boolean";
      const args = isSwitch ? [`--${name}`] : [`--${name}`, "value"];
      assert.deepEqual(parseFlags(args, {}).settings, { [key]: isSwitch ? "true" : "value" });
    }
  });
});

describe("the environment", () => {
  const variable = (key: string) => variableFor("OCI_WORKER_SNAPSHOTTER_", key);

  /** For keys without a default that are no paths. */
  const examples: Partial<Config> = { lazyCacheQuotaBytes: 1000 };

  for (const key of keys) {
    test(`sets ${key} by ${variable(key)}`, () => {
      const example = defaults[key] ?? examples[key] ?? "/a/value";
      const value = inEnvironment(example);
      const { settings } = parseFlags([], { [variable(key)]: value });
      // A list without anything in it is said by no variable.
      assert.deepEqual(settings, value === "" ? {} : { [key]: value });
      assert.deepEqual(parseConfig(settings)[key], example);
    });
  }
});
