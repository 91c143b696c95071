import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { parseSpec } from "./parse-spec.ts";

const whole = `
cdiVersion: "0.7.0"
kind: vendor.com/gpu
annotations:
  made.by: us
containerEdits:
  env: [ALL=1]
devices:
- name: "0"
  annotations: { says: it }
  containerEdits:
    env:
    - ONE=a=b
    deviceNodes:
    - path: /dev/gpu0
      hostPath: /dev/null
      type: c
      major: 195
      minor: 3
      fileMode: 0660
      permissions: rw
      uid: 0
      gid: 44
    - path: /dev/plain
    - { path: /dev/closed, permissions: none, type: "" }
    mounts:
    - hostPath: /usr/lib/libgpu.so
      containerPath: /lib/libgpu.so
      options: [ro, bind]
      type: bind
    hooks:
    - hookName: createContainer
      path: /usr/bin/hook
      args: [hook, "5", 7]
      env: [A=b]
      timeout: 5
    intelRdt:
      closID: gpu
      l3CacheSchema: L3:0=f
      memBwSchema:
    additionalGIDs: [0, 44]
`;

const node = { hostPath: undefined, type: undefined, major: undefined, minor: undefined };
const owner = { fileMode: undefined, uid: undefined, gid: undefined };

test("a specification is read with all that it may say, octal modes and either spelling of keys included", () => {
  const { devices, ...spec } = parseSpec(whole);
  assert.deepEqual(
    { ...spec, edits: spec.edits.env },
    { kind: "vendor.com/gpu", annotations: { "made.by": "us" }, edits: ["ALL=1"] },
  );
  assert.deepEqual(devices, [
    {
      name: "0",
      annotations: { says: "it" },
      edits: {
        env: ["ONE=a=b"],
        deviceNodes: [
          {
            path: "/dev/gpu0",
            hostPath: "/dev/null",
            type: "c",
            major: 195,
            minor: 3,
            fileMode: 0o660,
            permissions: "rw",
            uid: 0,
            gid: 44,
          },
          { ...node, ...owner, path: "/dev/plain", permissions: "rwm" },
          { ...node, ...owner, path: "/dev/closed", permissions: "" },
        ],
        mounts: [
          {
            hostPath: "/usr/lib/libgpu.so",
            containerPath: "/lib/libgpu.so",
            type: "bind",
            options: ["ro", "bind"],
          },
        ],
        hooks: [
          {
            hookName: "createContainer",
            path: "/usr/bin/hook",
            args: ["hook", "5", "7"],
            env: ["A=b"],
            timeout: 5,
          },
        ],
        additionalGids: [0, 44],
        intelRdt: { closID: "gpu", l3CacheSchema: "L3:0=f" },
        unsupported: [],
      },
    },
  ]);
});

test("JSON and YAML of the same are the same", () => {
  const spec = {
    cdiVersion: "0.5.0",
    kind: "vendor.com/class",
    devices: [{ name: "a", containerEdits: { deviceNodes: [{ path: "/dev/a", fileMode: 432 }] } }],
  };
  const yaml = `# hand-made
cdiVersion: 0.5.0
kind: vendor.com/class
devices:
  - name: a
    containerEdits: { deviceNodes: [ { path: /dev/a, fileMode: 0660 } ] }
`;
  assert.deepEqual(parseSpec(JSON.stringify(spec, undefined, "\t")), parseSpec(yaml));
});

/** A specification of one device with `edits`, as YAML's flow. */
function withEdits(edits: string, { version = "1.1.0", kind = "v.com/c", name = "d" } = {}): string {
  return `{ cdiVersion: "${version}", kind: "${kind}", devices: [ { name: "${name}", containerEdits: ${edits} } ] }`;
}

describe("a specification is refused, and what is wrong is named,", () => {
  const device = "{ env: [A=b] }";
  const cases: readonly (readonly [what: string, text: string, message: RegExp])[] = [
    ["that is empty", "", /^it is null, want a table/],
    ["that is no document", "kind: [", /^it is neither JSON nor YAML: .*line 1/],
    ["that is two", "a: 1\n---\na: 1\n", /^it is neither JSON nor YAML/],
    ["that says a thing twice", "kind: a/b\nkind: a/c\n", /neither JSON nor YAML: .*unique/],
    ["that says a thing twice in two spellings", "kind: a/b\nKIND: a/c\n", /KIND is there twice/],
    ["with a key on two lines", '"a\\nb": 1', /^"a\\nb" is no key of it/],
    ["that is a list", "[]", /^it is \[\], want a table/],
    ["without a version", "kind: a/b\ndevices: []\n", /^it has no cdiVersion/],
    ["of no version", withEdits(device, { version: "0.6" }), /cdiVersion is "0.6", want one of 0.3.0, /],
    ["of a later version", withEdits(device, { version: "2.0.0" }), /cdiVersion is "2.0.0"/],
    ["of no kind", withEdits(device, { kind: "gpu" }), /^kind is "gpu", want VENDOR\/CLASS/],
    ["of a kind of three parts", withEdits(device, { kind: "a/b/c" }), /^kind is "a\/b\/c"/],
    ["with no device", "{ cdiVersion: 0.6.0, kind: a/b, devices: [] }", /^devices is empty/],
    ["with a name that is none", withEdits(device, { name: "a b" }), /^devices\[0\]\.name is "a b"/],
    ["with a device that edits nothing", withEdits("{ env: [] }"), /^devices\[0\] has no containerEdits/],
    [
      "with two devices of a name",
      "{ cdiVersion: 0.6.0, kind: a/b, devices: [{ name: x, containerEdits: { env: [A=b] } }, { name: x, containerEdits: { env: [A=b] } }] }",
      /^devices has "x" twice/,
    ],
    [
      "with a key of its own",
      withEdits("{ envs: [] }"),
      /containerEdits\.envs is no key of it, want one of env,/,
    ],
    ["with a variable that is none", withEdits("{ env: [A] }"), /env\[0\] is "A", want NAME=VALUE/],
    [
      "with a relative device",
      withEdits("{ deviceNodes: [{ path: dev/x }] }"),
      /path is "dev\/x", want an absolute/,
    ],
    ["with a nameless device", withEdits("{ deviceNodes: [{}] }"), /deviceNodes\[0\] has no path/],
    [
      "with a type of node that is none",
      withEdits("{ deviceNodes: [{ path: /x, type: d }] }"),
      /type is "d", want one of b, c/,
    ],
    [
      "with a permission that is none",
      withEdits("{ deviceNodes: [{ path: /x, permissions: rwx }] }"),
      /permissions is "rwx"/,
    ],
    [
      "with a text for a number",
      withEdits('{ deviceNodes: [{ path: /x, uid: "0" }] }'),
      /uid is "0", want a whole/,
    ],
    [
      "with a number too large",
      withEdits("{ deviceNodes: [{ path: /x, gid: 4294967296 }] }"),
      /gid is 4294967296/,
    ],
    [
      "with a mount from nowhere",
      withEdits("{ mounts: [{ containerPath: /x }] }"),
      /mounts\[0\] has no hostPath/,
    ],
    [
      "with a hook at no time",
      withEdits("{ hooks: [{ hookName: now, path: /x }] }"),
      /hookName is "now", want one of prestart/,
    ],
    [
      "with a hook without patience",
      withEdits("{ hooks: [{ hookName: prestart, path: /x, timeout: 0 }] }"),
      /timeout is 0/,
    ],
    ["with a CLOS outside of its place", withEdits("{ intelRdt: { closID: a/b } }"), /closID is "a\/b"/],
    ["with a text for a list", withEdits("{ env: A=b }"), /env is "A=b", want a list/],
    [
      "with aliases without end",
      "a: &a [x, x]\nb: &b [*a, *a]\n".concat(
        ...Array.from(
          { length: 20 },
          (_, index) =>
            `c${index}: &c${index} [${Array(20)
              .fill(index === 0 ? "*b" : `*c${index - 1}`)
              .join(", ")}]\n`,
        ),
      ),
      /neither JSON nor YAML: .*alias/,
    ],
    ["that is deeper than anybody reads", "[".repeat(100_000), /neither JSON nor YAML/],
  ];
  for (const [what, text, message] of cases) {
    test(what, () => {
      assert.throws(
        () => parseSpec(text),
        (error) => {
          assert(error instanceof InvalidArgumentError, String(error));
          assert.match(error.message, message);
          assert(!error.message.includes("\n"), "one line says it");
          return true;
        },
      );
    });
  }
});

describe("a specification has to be of the version that it takes, for", () => {
  const cases = [
    [
      "the type of a mount",
      "0.4.0",
      withEdits,
      "{ mounts: [{ hostPath: /a, containerPath: /a, type: bind }] }",
      {},
    ],
    ["another path on the host", "0.5.0", withEdits, "{ deviceNodes: [{ path: /a, hostPath: /b }] }", {}],
    ["a name that begins with a digit", "0.5.0", withEdits, "{ env: [A=b] }", { name: "0" }],
    ["a dot in the class", "0.6.0", withEdits, "{ env: [A=b] }", { kind: "v.com/a.b" }],
    ["groups", "0.7.0", withEdits, "{ additionalGids: [5] }", {}],
    ["cache allocation", "0.7.0", withEdits, "{ intelRdt: { closID: a } }", {}],
    ["network devices", "1.1.0", withEdits, "{ netDevices: [{ hostInterfaceName: a, name: b }] }", {}],
    ["monitoring", "1.1.0", withEdits, "{ intelRdt: { enableMonitoring: true } }", {}],
  ] as const;
  const order = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];
  for (const [what, since, spec, edits, more] of cases) {
    test(what, () => {
      parseSpec(spec(edits, { ...more, version: since }));
      parseSpec(spec(edits, { ...more, version: `v${since}` }));
      const before = order[order.indexOf(since) - 1] ?? "";
      assert.throws(
        () => parseSpec(spec(edits, { ...more, version: before })),
        new RegExp(`cdiVersion is "${before}", but .* came with ${since}: want that`),
      );
    });
  }
});

test("whatever the text is, it is read or refused with one line", () => {
  const sometimesYaml = fc.oneof(fc.string(), fc.json(), fc.mixedCase(fc.constant(whole)));
  fc.assert(
    fc.property(sometimesYaml, (text) => {
      try {
        parseSpec(text);
      } catch (error) {
        assert(error instanceof InvalidArgumentError, String(error));
        assert(!error.message.includes("\n"));
      }
    }),
  );
});
