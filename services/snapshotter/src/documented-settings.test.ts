import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
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

/** The rows of the README's table of settings: key, flag, default. */
async function documented(): Promise<string[][]> {
  const lines = (await readFile(readme, "utf8")).split("\n");
  const first = lines.indexOf("| key | flag | default | meaning |") + 2;
  assert(first > 1, "the README has no table of settings");
  const rows = lines.slice(first, lines.indexOf("", first));
  return rows.map((row) =>
    row
      .split("|")
      .map((cell) => cell.trim())
      .slice(1, 4),
  );
}

describe("deploy/config/snapshotter.toml", () => {
  test("says what the program goes by without it, key by key", async () => {
    const table = await loadConfig(defaultFile, true);
    assert.deepEqual({ ...table }, withValues(defaults));
    assert.deepEqual(parseConfig(table), defaults);
  });

  test("shows every key that has no default as a comment", async () => {
    const commented = [...(await readFile(defaultFile, "utf8")).matchAll(/^# ([A-Za-z]+) = .+$/gm)];
    const without = keys.filter((key) => defaults[key] === undefined);
    assert.deepEqual(
      commented.map(([, key]) => key),
      without,
    );
  });

  test("is a file that loads with what is commented out, too", async () => {
    const text = await readFile(defaultFile, "utf8");
    for (const [, key = "", value = ""] of text.matchAll(/^# ([A-Za-z]+) = "(.+)"$/gm)) {
      assert.equal(parseConfig({ [key]: value })[key as keyof Config], value);
    }
  });
});

describe("the README", () => {
  test("has a row for every setting, with its default", async () => {
    const rows = await documented();
    const wanted = keys.map((key) => {
      const value = defaults[key];
      const isNone = value === undefined || (Array.isArray(value) && value.length === 0);
      return [`\`${key}\``, isNone ? "none" : `\`${inEnvironment(value)}\``];
    });
    assert.deepEqual(
      rows.map(([key, , fallback]) => [key, fallback]),
      wanted,
    );
  });

  test("names for each setting the flag that sets it, and for none another one", async () => {
    const rows = await documented();
    for (const [key = "", flag = ""] of rows) {
      const name = /^`--([a-z-]+)`$/.exec(flag)?.[1];
      if (name === undefined) {
        assert.equal(flag, "", `the flag of ${key}`);
        const own = key.slice(1, -1).replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
        assert(!usage.includes(`--${own} `), `${key} has a flag that the README does not name`);
        continue;
      }
      assert(usage.includes(`  --${name} `), `--help explains --${name}`);
      const isSwitch = typeof defaults[key.slice(1, -1) as keyof Config] === "boolean";
      const args = isSwitch ? [`--${name}`] : [`--${name}`, "value"];
      assert.deepEqual(parseFlags(args, {}).settings, { [key.slice(1, -1)]: isSwitch ? "true" : "value" });
    }
  });
});

describe("the environment", () => {
  const variable = (key: string) =>
    `OCI_WORKER_SNAPSHOTTER_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;

  for (const key of keys) {
    test(`sets ${key} by ${variable(key)}`, () => {
      const value = inEnvironment(defaults[key] ?? "/a/value");
      const { settings } = parseFlags([], { [variable(key)]: value });
      // A list without anything in it is said by no variable.
      assert.deepEqual(settings, value === "" ? {} : { [key]: value });
      assert.deepEqual(parseConfig(settings)[key], defaults[key] ?? value);
    });
  }
});
