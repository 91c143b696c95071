import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse } from "smol-toml";
import { resolveConfig } from "./config.ts";
import { readConfigFile } from "./file.ts";
import { parseCommandLine } from "./flags.ts";
import { idleSettings } from "./idle-settings.ts";

function idle(toml: string, ...args: readonly string[]): string[] {
  const { layer, registry } = readConfigFile(parse(toml), "test.toml");
  return idleSettings(resolveConfig(layer, parseCommandLine(args).layer), registry, "test.toml");
}

const registry = '[registry."r.example"]\nhttp = true\n';
const lazy = "[worker.oci.stargzSnapshotter]\nnoprefetch = true\n";
const policy = "[[worker.oci.gcpolicy]]\nall = true\n";

describe("settings have no effect", () => {
  const cases: [what: string, warnings: string[], want: string[]][] = [
    [
      "if they are for a resolver that runs already",
      idle(registry, "--resolver-address=/r.sock"),
      [
        "[registry] of test.toml has no effect: the resolver at /r.sock goes by a file of its own, want it there",
      ],
    ],
    [
      "if they are for a snapshotter that runs already",
      idle(lazy, "--oci-worker-proxy-snapshotter-path=/s.sock", "--oci-worker-snapshotter=stargz"),
      [
        "worker.oci.stargzSnapshotter of test.toml has no effect: the snapshotter at /s.sock goes by a file of its own, want it there",
      ],
    ],
    [
      "if they are for lazy layers, which only one snapshotter has",
      idle(lazy),
      [
        "worker.oci.stargzSnapshotter of test.toml has no effect: snapshotter is auto, which has no lazy layers, want stargz",
      ],
    ],
    [
      "if they are limits in place of which there are rules",
      idle(`[worker.oci]\nreservedSpace = "1GB"\n${policy}`, "--oci-worker-gc-keepstorage=5"),
      [
        "worker.oci.reservedSpace of test.toml has no effect: worker.oci.gcpolicy says what is kept, want it there",
        "--oci-worker-gc-keepstorage has no effect: worker.oci.gcpolicy says what is kept, want it there",
      ],
    ],
  ];
  for (const [what, warnings, want] of cases) {
    test(what, () => assert.deepEqual(warnings, want));
  }

  test("only together with others", () => {
    assert.deepEqual(idle(""), []);
    assert.deepEqual(idle(registry), []);
    assert.deepEqual(idle(lazy, "--oci-worker-snapshotter=stargz"), []);
    assert.deepEqual(idle(policy), []);
    assert.deepEqual(idle('[worker.oci]\nmaxUsedSpace = "1GB"\n'), []);
    assert.deepEqual(idle("", "--resolver-address=/r.sock"), []);
  });
});
