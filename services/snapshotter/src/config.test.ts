import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { defaults, parseConfig } from "./config.ts";

describe("parseConfig", () => {
  test("gives the defaults for an empty document", () => {
    assert.deepEqual(parseConfig({}), defaults);
  });

  test("takes every key that there is", () => {
    const config = {
      root: "/data/snapshots",
      address: "/run/s.sock",
      snapshotter: "native",
      autoExclude: ["native", "overlayfs"],
      client: "ours",
      allowSeveralClients: true,
      resolverAddress: "/run/r.sock",
      logLevel: "debug",
      logFormat: "text",
      syncOnCommit: true,
      mountOptions: ["xino=off"],
      upperdirLabel: true,
      drainTimeoutMs: 0,
      lazyMode: "fuse",
      lazyCacheQuotaBytes: 1000,
      lazyPrefetch: false,
      lazyPrefetchTimeoutMs: 1,
      lazyBackgroundFetch: false,
      lazyFetchTimeoutMs: 2,
      lazyOpenTimeoutMs: 3,
      lazyAllowUnverified: true,
      lazyMaxConcurrentFetches: 4,
    } as const;
    assert.deepEqual(parseConfig(config), config);
    assert.deepEqual(Object.keys(config), Object.keys(defaults));
  });

  test("takes a list from the environment, which has none, as one text", () => {
    assert.deepEqual(parseConfig({ mountOptions: "index=on,xino=off" }).mountOptions, [
      "index=on",
      "xino=off",
    ]);
  });

  test("tells which key a misspelt one was meant to be", () => {
    assert.throws(
      () => parseConfig({ mount_options: [] }),
      /unknown key "mount_options", want mountOptions /,
    );
  });

  test("takes sockets with unix:// before them, and paths with doubled slashes", () => {
    const config = parseConfig({
      address: "unix:///run/s.sock",
      resolverAddress: "unix:///r.sock",
      root: "//a//b/",
    });
    assert.equal(config.address, "/run/s.sock");
    assert.equal(config.resolverAddress, "/r.sock");
    assert.equal(config.root, "/a/b");
    assert.equal(parseConfig({ root: "/" }).root, "/");
  });

  test("takes a list with commas, as the environment has it", () => {
    assert.deepEqual(parseConfig({ autoExclude: "native,fuse-overlayfs" }).autoExclude, [
      "native",
      "fuse-overlayfs",
    ]);
  });

  const wrong: readonly Readonly<Record<string, unknown>>[] = [
    { snapshoter: "native" },
    { toString: "x" },
    { snapshotter: "overlay" },
    { snapshotter: 1 },
    { autoExclude: "native,stargz" },
    { autoExclude: ["auto"] },
    { autoExclude: 1 },
    { root: "relative" },
    { root: "" },
    { root: "/a\0b" },
    { address: "relative.sock" },
    { address: "unix://relative.sock" },
    { address: "tcp://127.0.0.1:1" },
    { address: `/${"x".repeat(107)}` },
    { client: "" },
    { client: 1 },
    { allowSeveralClients: "maybe" },
    { logLevel: 3 },
    { syncOnCommit: "yes" },
    { mountOptions: "a b" },
    { mountOptions: [1] },
    { mountOptions: [""] },
    { mountOptions: ["xino=on", "upperdir=/etc"] },
    { mountOptions: ["index=on,metacopy=on"] },
    { mountOptions: ["metacopy=on"] },
    { mountOptions: ["uidmap=0:0:1"] },
    { upperdirLabel: 1 },
    { lazyMode: "overlay" },
    { lazyCacheQuotaBytes: "10GB" },
    { lazyOpenTimeoutMs: 0 },
    { lazyMaxConcurrentFetches: 0 },
    { drainTimeoutMs: -1 },
    { drainTimeoutMs: 1.5 },
    { drainTimeoutMs: "10s" },
    { drainTimeoutMs: 2 ** 31 },
  ];
  for (const raw of wrong) {
    const [key = "", value] = Object.entries(raw)[0] ?? [];
    test(`refuses ${key} = ${JSON.stringify(value)?.slice(0, 30)}, naming the key`, () => {
      assert.throws(
        () => parseConfig(raw),
        (error) => error instanceof InvalidArgumentError && error.message.includes(key),
      );
    });
  }
});
