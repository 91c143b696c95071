import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { NotFoundError } from "@oci-worker/errdefs";
import { mknod, S_IFIFO } from "@oci-worker/libc/file";
import { pino } from "pino";
import { DeviceRegistry } from "./device-registry.ts";

/** A registry of directories `low` and `high`, neither of which is there yet, and what it has told of. */
async function fixture(autoAllowed: readonly string[] = []) {
  const directory = await mkdtempDisposable(join(tmpdir(), "cdi-"));
  const [low, high] = [join(directory.path, "low"), join(directory.path, "high")];
  const told: { path: string; problem: string }[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => told.push(JSON.parse(line)) });
  const registry = new DeviceRegistry({ directories: [low, high], autoAllowed, log });
  const names = async () => [...(await registry.read())].map(({ name }) => name);
  return { low, high, told, registry, names, [Symbol.asyncDispose]: () => directory.remove() };
}

/** Puts a specification in place as a whole, as its writers should. */
async function write(directory: string, name: string, kind: string, devices: Record<string, string>) {
  await mkdir(directory, { recursive: true });
  const list = Object.entries(devices).map(([device, more]) => `- name: ${device}\n  ${more}\n`);
  const spare = join(directory, "spare");
  await writeFile(spare, `cdiVersion: 0.6.0\nkind: ${kind}\ndevices:\n${list.join("")}`);
  await rename(spare, join(directory, name));
}

const env = (variable: string) => `containerEdits: { env: [${variable}] }`;

describe("the devices of a machine", () => {
  test("are those that its files say now, whatever they said before", async () => {
    await using on = await fixture();
    assert.deepEqual(await on.names(), [], "no directory is none the worse");
    await write(on.low, "a.yaml", "v.com/c", { b: env("A=1"), a: env("A=2") });
    await mkdir(join(on.low, "deeper.yaml"));
    await write(join(on.low, "deeper.yaml"), "x.yaml", "v.com/deeper", { a: env("A=1") });
    await writeFile(join(on.low, "notes.txt"), "none");
    assert.deepEqual(await on.names(), ["v.com/c=a", "v.com/c=b"]);
    await write(on.low, "a.yaml", "v.com/c", { b: env("A=3") });
    assert.deepEqual((await on.registry.read()).edits(["v.com/c=b"]).env, ["A=3"]);
    await rm(on.low, { recursive: true });
    assert.deepEqual(await on.names(), []);
    assert.deepEqual(on.told, []);
  });

  test("are there beside files that are wrong, of which the operator is told once", async () => {
    await using on = await fixture();
    await write(on.low, "good.json", "v.com/c", { good: env("A=1") });
    await writeFile(join(on.low, "bad.yaml"), "kind: [");
    await writeFile(join(on.low, "named.yml"), "");
    mknod(join(on.low, "fifo.json"), S_IFIFO | 0o600, 0n);
    await symlink("/no/such/file", join(on.low, "link.json"));
    await writeFile(on.high, "no directory");
    for (let reads = 0; reads < 3; reads += 1) {
      assert.deepEqual(await on.names(), ["v.com/c=good"]);
    }
    assert.deepEqual(
      on.told.map(({ path, problem }) => [path, problem.replace(/^(it is neither JSON nor YAML):.*/, "$1")]),
      [
        [join(on.low, "bad.yaml"), "it is neither JSON nor YAML"],
        [join(on.low, "fifo.json"), "it is no file, want one"],
        [join(on.low, "link.json"), `ENOENT: no such file or directory, open '${join(on.low, "link.json")}'`],
        [join(on.low, "named.yml"), "its name ends in .yml, want .yaml"],
        [on.high, `ENOTDIR: not a directory, scandir '${on.high}'`],
      ],
    );
    await writeFile(join(on.low, "bad.yaml"), "5");
    await on.names();
    assert.match(on.told.at(-1)?.problem ?? "", /^it is 5, want a table/, "what is wrong now is told");
    assert.equal(on.told.length, 6);
  });

  test("are of the stronger directory, and none of two files of one", async () => {
    await using on = await fixture();
    await write(on.low, "a.yaml", "v.com/c", { mine: env("A=low"), both: env("A=a"), other: env("A=o") });
    await write(on.low, "b.yaml", "v.com/c", { both: env("A=b") });
    await write(on.high, "a.yaml", "v.com/c", { mine: env("A=high") });
    const devices = await on.registry.read();
    assert.deepEqual(
      [...devices].map(({ name }) => name),
      ["v.com/c=mine", "v.com/c=other"],
    );
    assert.deepEqual(devices.edits(["v.com/c=mine"]).env, ["A=high"]);
    const [conflict] = on.told;
    assert.equal(conflict?.path, `${join(on.low, "a.yaml")} and ${join(on.low, "b.yaml")}`);
    assert.match(conflict?.problem ?? "", /^conflicting device "v.com\/c=both", want it in one file/);
    await write(on.high, "b.yaml", "v.com/c", { both: env("A=settled") });
    assert.deepEqual((await on.registry.read()).edits(["v.com/c=both"]).env, ["A=settled"]);
  });

  test("are allowed to all by name, by kind, or by their own word", async () => {
    await using on = await fixture(["v.com/named=a", "v.com/kind"]);
    const says = (text: string) =>
      `annotations: { org.mobyproject.buildkit.device.autoallow: "${text}" }\n  ${env("A=1")}`;
    await write(on.low, "named.yaml", "v.com/named", { a: env("A=1"), b: env("A=1") });
    await write(on.low, "kind.yaml", "v.com/kind", { a: env("A=1") });
    await write(on.low, "own.yaml", "v.com/own", {
      a: says("true"),
      b: says("T"),
      c: says("yes"),
      d: says("false"),
    });
    const allowed = [...(await on.registry.read())].filter((device) => device.isAutoAllowed);
    assert.deepEqual(
      allowed.map(({ name }) => name),
      ["v.com/kind=a", "v.com/named=a", "v.com/own=a", "v.com/own=b"],
    );
  });

  test("are found by name, by kind, all of a kind, and by class", async () => {
    await using on = await fixture();
    const classed = `annotations: { org.mobyproject.buildkit.device.class: gpu }\n  ${env("A=1")}`;
    await write(on.low, "c.yaml", "v.com/c", { b: env("B=1"), a: classed });
    await write(on.high, "c.yaml", "v.com/c", { b: env("B=2"), a: classed });
    await write(on.low, "d.yaml", "w.com/c", { a: classed });
    const devices = await on.registry.read();
    const found = (name: string) => devices.find(name).map((device) => device.name);
    assert.deepEqual(found("v.com/c=b"), ["v.com/c=b"]);
    assert.deepEqual(found("v.com/c"), ["v.com/c=a"]);
    assert.deepEqual(found("v.com/c=*"), ["v.com/c=a", "v.com/c=b"]);
    assert.deepEqual(found("gpu"), ["v.com/c=a", "w.com/c=a"]);
    for (const none of [
      "v.com/c=x",
      "v.com",
      "v.com/",
      "",
      "=",
      "=a",
      "v.com/c=b=",
      "V.com/c=b",
      "v.com/*",
    ]) {
      assert.deepEqual(found(none), [], none);
    }
  });

  test("change a container by their own edits, and once by those of their specification", async () => {
    await using on = await fixture();
    const of = (kind: string) =>
      `cdiVersion: 0.3.0\nkind: ${kind}\ncontainerEdits: { env: [ALL=${kind}] }\ndevices: [{ name: a, containerEdits: { env: [A=1] } }, { name: b, containerEdits: { env: [B=1] } }]\n`;
    await mkdir(on.low);
    await writeFile(join(on.low, "c.yaml"), of("v.com/c"));
    await writeFile(join(on.low, "d.yaml"), of("v.com/d"));
    const devices = await on.registry.read();
    const { env: variables } = devices.edits(["v.com/c=b", "v.com/d=a", "v.com/c=a"]);
    assert.deepEqual(variables, ["ALL=v.com/c", "B=1", "ALL=v.com/d", "A=1", "A=1"]);
    assert.throws(
      () => devices.edits(["v.com/c=x", "v.com/c=a", "v.com/e=a"]),
      (error) => {
        assert(error instanceof NotFoundError);
        assert.match(error.message, /^unresolvable CDI devices v\.com\/c=x, v\.com\/e=a: /);
        return true;
      },
    );
  });
});
