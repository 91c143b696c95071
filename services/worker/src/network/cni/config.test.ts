import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError, InvalidArgumentError } from "@oci-worker/errdefs";
import { parseNetworkConfig, readNetworkConfig } from "./config.ts";

describe("a network configuration", () => {
  test("is that of one plugin or a list of them, whatever its file is called", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "cni-"));
    const path = join(directory.path, "cni.json");
    await writeFile(path, '{"cniVersion":"1.0.0","name":"one","type":"bridge","mtu":1400}');
    const one = await readNetworkConfig(path);
    assert.deepEqual(one.plugins, [{ cniVersion: "1.0.0", name: "one", type: "bridge", mtu: 1400 }]);
    await writeFile(
      path,
      '{"cniVersion":"0.4.0","cniVersions":["1.0.0"],"name":"two","disableCheck":true,"plugins":[{"type":"a"},{"type":"b"}]}',
    );
    assert.deepEqual(await readNetworkConfig(path), {
      name: "two",
      cniVersions: ["0.4.0", "1.0.0"],
      disableCheck: true,
      plugins: [{ type: "a" }, { type: "b" }],
    });
  });

  test("is of version 0.1.0 if it names none", () => {
    assert.deepEqual(parseNetworkConfig('{"name":"n","type":"t"}', "f").cniVersions, ["0.1.0"]);
  });

  test("that is not there is told of in the words of upstream", async () => {
    await assert.rejects(readNetworkConfig("/nowhere/cni.json"), (error) => {
      assert(error instanceof FailedPreconditionError);
      assert.match(error.message, /^failed to read cni config "\/nowhere\/cni\.json": ENOENT/);
      return true;
    });
  });

  const wrong = [
    { name: "no JSON", text: "{", message: /it is no JSON:/ },
    { name: "no object", text: "[]", message: /it is no JSON object/ },
    { name: "no name", text: '{"type":"t"}', message: /name is undefined, want letters/ },
    { name: "a name that is a path", text: '{"name":"../n","type":"t"}', message: /name is "\.\.\/n"/ },
    { name: "no plugin", text: '{"name":"n"}', message: /plugin 0 has no type/ },
    { name: "an empty list", text: '{"name":"n","plugins":[]}', message: /plugins is empty/ },
    { name: "a type that is a path", text: '{"name":"n","type":"../sh"}', message: /without a path/ },
    {
      name: "a version that is none",
      text: '{"name":"n","type":"t","cniVersion":1}',
      message: /no versions/,
    },
  ] as const;
  for (const { name, text, message } of wrong) {
    test(`is refused with ${name}`, () => {
      assert.throws(
        () => parseNetworkConfig(text, "/etc/cni.json"),
        (error) => {
          assert(error instanceof InvalidArgumentError);
          assert.match(error.message, /^failed to read cni config "\/etc\/cni\.json": /);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }
});
