import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { UsageError } from "../args/usage-error.ts";
import { lend, lendingOf } from "./lending.ts";

const secretFrom = (text: string) => lendingOf({ secret: [text] }).secrets[0];

test("a secret comes from a file, a variable, or what is called like it", () => {
  assert.deepEqual(secretFrom("id=a,src=/x/y"), { id: "a", from: { file: "/x/y" } });
  assert.deepEqual(secretFrom("source=y=z,id=a"), { id: "a", from: { file: "y=z" } });
  assert.deepEqual(secretFrom("id=a,env=B"), { id: "a", from: { variable: "B" } });
  assert.deepEqual(secretFrom("id=a,type=env"), { id: "a", from: { variable: "a" } });
  assert.deepEqual(secretFrom("id=a,type=file,src=f"), { id: "a", from: { file: "f" } });
  assert.deepEqual(secretFrom("id=a"), { id: "a", from: { file: "a" } });
});

describe("what cannot be lent is refused", () => {
  for (const text of [
    "a",
    "src=x",
    "id=",
    "id=a,src=x,env=Y",
    "id=a,id=b",
    "id=../x",
    "id=a,mode=1",
    "id=a,type=x",
  ]) {
    test(`--secret ${text}`, () => {
      assert.throws(() => secretFrom(text), UsageError);
    });
  }
  for (const text of ["", "=x", "a/b", "a,b"]) {
    test(`--ssh ${text}`, () => {
      assert.throws(() => lendingOf({ ssh: [text] }), UsageError);
    });
  }
  test("two of one id", () => {
    assert.throws(() => lendingOf({ secret: ["id=a", "id=a,env=B"] }), /--secret "a" twice/);
    assert.throws(() => lendingOf({ ssh: ["default", "default=/s"] }), /--ssh "default" twice/);
  });
});

test("what is lent is read before anything else, and told by name if it is not there", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "lending-"));
  const file = join(directory.path, "file");
  await writeFile(file, "content");
  const lending = lendingOf({
    secret: [`id=f,src=${file}`, "id=v,env=V"],
    ssh: ["default", "other=/o.sock"],
  });
  const { options, mounts, env } = await lend(lending, { V: "value", SSH_AUTH_SOCK: "/a.sock" });
  const signal = new AbortController().signal;
  const secret = async (id: string) => (await options.secrets?.(id, signal))?.toString();
  assert.deepEqual(
    [await secret("f"), await secret("v"), await secret("x")],
    ["content", "value", undefined],
  );
  assert.deepEqual(options.sshAgents, { default: "/a.sock", other: "/o.sock" });
  assert.deepEqual(env, ["SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0"]);
  assert.deepEqual(
    mounts.map(({ dest }) => dest),
    ["/run/secrets/f", "/run/secrets/v", "/run/buildkit/ssh_agent.0", "/run/buildkit/ssh_agent.1"],
  );
  const refused = (flags: Parameters<typeof lendingOf>[0], message: RegExp) =>
    assert.rejects(lend(lendingOf(flags), {}), (error) => {
      assert(error instanceof InvalidArgumentError);
      assert.match(error.message, message);
      return true;
    });
  await refused({ secret: [`id=a,src=${directory.path}/absent`] }, /Cannot read secret "a": ENOENT/);
  await refused({ secret: ["id=a,env=NONE"] }, /no variable NONE/);
  await refused({ ssh: ["default"] }, /\$SSH_AUTH_SOCK is not set/);
});
