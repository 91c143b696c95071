import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  PermissionDeniedError,
} from "@oci-worker/errdefs";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { type Graph, loadDefinition } from "@oci-worker/llb/definition";
import type { DeviceOptions } from "@oci-worker/llb/exec-op";
import { parseReference } from "@oci-worker/oci/reference";
import { pino } from "pino";
import { DeviceRegistry } from "./device-registry.ts";
import { grantDevices } from "./grant-devices.ts";

const log = pino({ level: "silent" });

/** A registry with the devices v.com/c=a, =b and =free, the last of which everybody may have; a and b are of class gpu. */
async function fixture() {
  const directory = await mkdtempDisposable(join(tmpdir(), "grant-"));
  const device = (name: string, annotation: string) => ({
    name,
    annotations: {
      [`org.mobyproject.buildkit.device.${annotation}`]: annotation === "class" ? "gpu" : "true",
    },
    containerEdits: { env: ["A=1"] },
  });
  const devices = [device("a", "class"), device("b", "class"), device("free", "autoallow")];
  await writeFile(
    join(directory.path, "c.json"),
    JSON.stringify({ cdiVersion: "0.6.0", kind: "v.com/c", devices }),
  );
  const registry = new DeviceRegistry({ directories: [directory.path], autoAllowed: [], log });
  return { registry, [Symbol.asyncDispose]: () => directory.remove() };
}

/** A step that asks for `devices`, and one on top of it that asks for none. */
function graphOf(devices: readonly DeviceOptions[]): Graph {
  const base = image(parseReference("base"), { name: "base" });
  const first = run({ root: base, args: ["first"], name: "first", devices });
  return loadDefinition(definitionOf(run({ root: first.root, args: ["last"], name: "last" }).root));
}

function devicesOf(graph: Graph): string[] {
  return graph.vertices.flatMap(({ op: { op } }) =>
    op.case === "exec" ? op.value.cdiDevices.map(({ name }) => name) : [],
  );
}

describe("a step gets", () => {
  const cases: readonly {
    readonly name: string;
    readonly asked: readonly string[];
    readonly allow: readonly string[];
    readonly want: readonly string[] | RegExp;
  }[] = [
    {
      name: "whatever it asks for, if all is allowed",
      asked: ["v.com/c=*"],
      allow: ["device"],
      want: ["v.com/c=a", "v.com/c=b", "v.com/c=free"],
    },
    {
      name: "each device once",
      asked: ["v.com/c", "gpu", "v.com/c=a"],
      allow: ["device"],
      want: ["v.com/c=a", "v.com/c=b"],
    },
    { name: "what is free to all", asked: ["v.com/c=free"], allow: [], want: ["v.com/c=free"] },
    {
      name: "a device that is allowed by name",
      asked: ["v.com/c=b"],
      allow: ["device=v.com/c=b"],
      want: ["v.com/c=b"],
    },
    {
      name: "the first of a kind, if a kind is allowed",
      asked: ["v.com/c=a"],
      allow: ["device=v.com/c"],
      want: ["v.com/c=a"],
    },
    {
      name: "all of a class that is allowed",
      asked: ["v.com/c=b"],
      allow: ["device=gpu"],
      want: ["v.com/c=b"],
    },
    {
      name: "what stands behind another name",
      asked: ["mine"],
      allow: ["device=v.com/c=b,alias=mine"],
      want: ["v.com/c=b"],
    },
    {
      name: "what is allowed beside what is not there",
      asked: ["v.com/c=a"],
      allow: ["device=x.com/y=z", "device=v.com/c=a"],
      want: ["v.com/c=a"],
    },
    {
      name: "nothing that nobody allows",
      asked: ["v.com/c=a"],
      allow: ["network.host"],
      want: /^device v\.com\/c=a is requested by the build but not allowed, want the client to allow device=v\.com\/c=a/,
    },
    {
      name: "none of several that nobody allows",
      asked: ["gpu"],
      allow: [],
      want: /^devices v\.com\/c=a, v\.com\/c=b are requested by the build but not allowed/,
    },
    {
      name: "no other device than the one allowed",
      asked: ["v.com/c=*"],
      allow: ["device=v.com/c=a"],
      want: /^device v\.com\/c=b is requested/,
    },
    {
      name: "not the last of a kind, if a kind is allowed",
      asked: ["v.com/c=b"],
      allow: ["device=v.com/c"],
      want: /^device v\.com\/c=b is requested/,
    },
    {
      name: "no device by its own name that is allowed under another",
      asked: ["v.com/c=b"],
      allow: ["device=v.com/c=b,alias=mine"],
      want: /^device v\.com\/c=b is requested/,
    },
  ];
  for (const { name, asked, allow, want } of cases) {
    test(name, async () => {
      await using on = await fixture();
      const graph = graphOf(asked.map((device) => ({ name: device })));
      const granting = grantDevices(graph, allow, on.registry, log);
      if (want instanceof RegExp) {
        await assert.rejects(granting, (error) => {
          assert(error instanceof PermissionDeniedError, String(error));
          assert.match(error.message, want);
          return true;
        });
      } else {
        assert.deepEqual(devicesOf(await granting), want);
      }
      assert.deepEqual(devicesOf(graph), asked, "the definition itself stays");
    });
  }
});

test("a device that is not there fails the build, unless the step can do without", async () => {
  await using on = await fixture();
  const grant = (devices: readonly DeviceOptions[]) =>
    grantDevices(graphOf(devices), ["device"], on.registry, log);
  await assert.rejects(grant([{ name: "v.com/c=x" }]), (error) => {
    assert(error instanceof NotFoundError);
    assert.match(error.message, /^required device "v\.com\/c=x" is not registered, want/);
    return true;
  });
  assert.deepEqual(devicesOf(await grant([{ name: "v.com/c=x", optional: true }, { name: "v.com/c=a" }])), [
    "v.com/c=a",
  ]);
});

test("where CDI is disabled, only what a step can do without is passed over", async () => {
  const [needed, optional] = [{ name: "v.com/c=a" }, { name: "v.com/c=b", optional: true }];
  const grant = (devices: readonly DeviceOptions[], allow: readonly string[]) =>
    grantDevices(graphOf(devices), allow, undefined, log);
  assert.deepEqual(devicesOf(await grant([optional], [])), []);
  await assert.rejects(grant([optional, needed], []), (error) => {
    assert(error instanceof FailedPreconditionError);
    assert.match(error.message, /"v\.com\/c=a": CDI is disabled, want a worker without --cdi-disabled/);
    return true;
  });
  await assert.rejects(grant([], ["device=v.com/c=a"]), (error) => {
    assert(error instanceof PermissionDeniedError);
    assert.match(error.message, /^granting entitlement device is not allowed by build daemon configuration/);
    return true;
  });
});

test("an entitlement that cannot be read is refused, even if no step asks for a device", async () => {
  await using on = await fixture();
  const cases = [
    ["device=v.com/c=a,x", /^invalid device config "x" in entitlement "device=v\.com\/c=a,x", want device,/],
    ["device=v.com/c=a,name=x", /^unknown device config key "name"/],
    ["device=v.com/c=a,alias=", /^invalid device config "alias="/],
  ] as const;
  for (const [entitlement, message] of cases) {
    await assert.rejects(grantDevices(graphOf([]), [entitlement], on.registry, log), (error) => {
      assert(error instanceof InvalidArgumentError);
      assert.match(error.message, message);
      return true;
    });
  }
});

test("steps with different devices behind one name are different, as is what stands on them", async () => {
  await using on = await fixture();
  const variants = async (allow: string) => {
    const { vertices } = await grantDevices(graphOf([{ name: "mine" }]), [allow], on.registry, log);
    return vertices.map(({ variant }) => variant);
  };
  const [a, again, b] = [
    await variants("device=v.com/c=a,alias=mine"),
    await variants("device=v.com/c=a,alias=mine"),
    await variants("device=v.com/c=b,alias=mine"),
  ];
  assert.deepEqual(a, again);
  assert.equal(a[0], undefined, "what has no device is shared by all");
  assert.equal(new Set([...a, ...b]).size, 5);
});
