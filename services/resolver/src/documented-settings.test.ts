import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { settingsTable, variableFor, withCommentedSettings } from "@oci-worker/daemon/documented-settings";
import { loadConfig } from "@oci-worker/daemon/load-config";
import { parse } from "smol-toml";
import { type Config, defaults, parseConfig } from "./config.ts";
import { parseFlags } from "./flags.ts";

const defaultFile = join(import.meta.dirname, "../../../deploy/config/resolver.toml");
const readme = join(import.meta.dirname, "../README.md");

const keys = Object.keys(defaults) as (keyof Config)[];

/** Tables, which are empty where nothing is set. */
const tables: ReadonlySet<string> = new Set(["static", "registry"]);

/** Keys that a file with all defaults cannot set: without a default, or with one from the environment. */
const unset: ReadonlySet<string> = new Set(["sessionAddress", "dockerConfig", "buildkitdConfig", ...tables]);

/** The tables of the README's TOML blocks, those of hosts.toml left out. */
async function examples() {
  const text = await readFile(readme, "utf8");
  const blocks = [...text.matchAll(/^```toml\n([\s\S]*?)^```$/gm)].map(([, block = ""]) => block);
  return blocks.filter((block) => !block.includes("hosts.toml")).map((block) => parse(block));
}

describe("deploy/config/resolver.toml", () => {
  test("says what the program goes by without it, key by key", async () => {
    const table = await loadConfig(defaultFile, true);
    const wanted = Object.entries(defaults).filter(([key]) => !unset.has(key));
    assert.deepEqual({ ...table }, Object.fromEntries(wanted));
    assert.deepEqual(parseConfig(table), defaults);
  });

  test("shows every key that it does not set, and these are good", async () => {
    const table = await withCommentedSettings(defaultFile);
    assert.deepEqual(Object.keys(table).sort(), keys.toSorted());
    const { sessionAddress, dockerConfig, buildkitdConfig, static: entries, registry } = parseConfig(table);
    assert.deepEqual(
      [sessionAddress, dockerConfig, buildkitdConfig],
      [table["sessionAddress"], defaults.dockerConfig, table["buildkitdConfig"]],
    );
    assert.deepEqual(
      entries.map(({ registry: { text } }) => text),
      ["registry.example/team"],
    );
    assert.deepEqual([...registry.keys()], ["docker.io", "mirror.example"]);
  });
});

describe("the README", () => {
  test("has a row for every setting, with its default", async () => {
    const shown = ([key, value]: [string, unknown]) => {
      if (key === "dockerConfig") {
        return [key, "$DOCKER_CONFIG/config.json, else ~/.docker/config.json"];
      }
      const isNone = value === undefined || tables.has(key);
      const text = Array.isArray(value) ? JSON.stringify(value).replaceAll(",", ", ") : String(value);
      return [key, isNone ? "none" : text];
    };
    assert.deepEqual(
      (await settingsTable(readme)).map(({ key, default: fallback }) => [key, fallback]),
      Object.entries(defaults).map(shown),
    );
  });

  test("gives examples that are good, for every setting and every keychain", async () => {
    const blocks = await examples();
    const shown = new Set(blocks.flatMap((table) => Object.keys(table)));
    assert.deepEqual([...shown].sort(), keys.toSorted());
    const configs = blocks.map((table) => parseConfig(table));
    assert.deepEqual(
      configs.flatMap((config) => config.static.map(({ kind }) => kind)),
      ["password", "identity-token"],
    );
    const withMirrors = configs.find(({ registry }) => registry.size > 0);
    assert.deepEqual(
      withMirrors?.registry.get("docker.io")?.mirrors.map(({ host }) => host),
      ["mirror.example", "cache.example:5000"],
    );
    const text = await readFile(readme, "utf8");
    for (const keychain of [...defaults.keychains, "anonymous"]) {
      assert.ok(text.includes(`\n**${keychain}**: `), keychain);
    }
  });
});

test("the environment sets every key whose value is no table", () => {
  const variable = (key: string) => variableFor("OCI_WORKER_RESOLVER_", key);
  for (const key of keys) {
    const value = String(defaults[key] ?? "/a/value");
    if (tables.has(key)) {
      assert.throws(() => parseFlags([], { [variable(key)]: "x" }), /sets nothing/);
    } else {
      const { settings } = parseFlags([], { [variable(key)]: value });
      assert.deepEqual(parseConfig(settings)[key], defaults[key] ?? value);
    }
  }
});
