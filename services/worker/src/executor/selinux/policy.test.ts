import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError, InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import { readSelinuxPolicy } from "./policy.ts";

/** As Debian's policy has it. */
const lxcContexts = `
# comment
process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "system_u:object_r:container_file_t:s0"
`;

/** A host on which SELinux would be in force; `files` come in place of what is there. */
async function host(files: Readonly<Record<string, string>> = {}) {
  const directory = await mkdtempDisposable(join(tmpdir(), "selinux-"));
  const place = (name: string) => join(directory.path, name);
  const all = {
    mountinfo: `22 1 0:20 / ${place("fs")} rw,relatime - selinuxfs selinuxfs rw\n`,
    label: "system_u:system_r:init_t:s0\0",
    config: "# SELINUXTYPE=minimum\nSELINUX=enforcing\nSELINUXTYPE=default\n",
    "etc/default/contexts/lxc_contexts": lxcContexts,
    "fs/context": "",
    ...files,
  };
  for (const [name, text] of Object.entries(all)) {
    await mkdir(dirname(place(name)), { recursive: true });
    await writeFile(place(name), text);
  }
  return {
    place,
    read: () =>
      readSelinuxPolicy({
        mountInfo: place("mountinfo"),
        ownLabel: place("label"),
        config: place("config"),
        policies: place("etc"),
        contexts: place("contexts"),
      }),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

const containerProcess = { user: "system_u", role: "system_r", type: "container_t", level: "s0" };

describe("the policy of SELinux", () => {
  test("says how containers are labelled", async () => {
    await using on = await host();
    assert.deepEqual(await on.read(), {
      process: containerProcess,
      file: { user: "system_u", role: "object_r", type: "container_file_t", level: "s0" },
    });
    assert.equal(await readFile(on.place("fs/context"), "utf8"), "system_u:object_r:container_file_t:s0");
  });

  test("gives way to what the container tools of the distribution bring, and may have no levels", async () => {
    await using on = await host({
      contexts: "process=u:r:own_t\nfile = u:r:own_file_t\n; process = u:r:t\n",
    });
    const { process, file } = await on.read();
    assert.deepEqual(process, { user: "u", role: "r", type: "own_t", level: "" });
    assert.equal(file.type, "own_file_t");
  });

  test("is the targeted one if nobody says which", async () => {
    await using on = await host({ config: "", "etc/targeted/contexts/lxc_contexts": lxcContexts });
    assert.deepEqual((await on.read()).process, containerProcess);
  });

  test("must be in force", async () => {
    const unavailable = (why: RegExp) => (error: unknown) => {
      assert(error instanceof FailedPreconditionError);
      assert.match(error.message, /^Cannot use --oci-worker-selinux=true: selinux is not available, /);
      assert.match(error.message, why);
      return true;
    };
    await using without = await host({ mountinfo: "22 1 0:20 / /sys rw - sysfs sysfs rw\n" });
    await assert.rejects(without.read(), unavailable(/selinuxfs is not mounted/));
    await using early = await host({ label: "kernel\0" });
    await assert.rejects(early.read(), unavailable(/no policy is loaded/));
    await using container = await host();
    const fs = container.place("fs");
    await mountAll([{ type: "tmpfs", source: "tmpfs", options: ["ro"] }], fs);
    try {
      await assert.rejects(container.read(), unavailable(/is mounted read-only/));
    } finally {
      await unmount(fs);
    }
  });

  test("must have what it takes, in files as they should be", async () => {
    const refusals: readonly [Record<string, string>, new (message: string) => Error, RegExp][] = [
      [{ "etc/default/contexts/lxc_contexts": "" }, NotFoundError, /no line for process, want a policy that/],
      [
        { "etc/default/contexts/lxc_contexts": "process = a:b:c\nfile = x\n" },
        InvalidArgumentError,
        /"x" as file of .*lxc_contexts: want USER:ROLE:TYPE/,
      ],
      [
        { "etc/default/contexts/lxc_contexts": `process = a:b:c,"\nfile = a:b:c\n` },
        InvalidArgumentError,
        /as process of/,
      ],
      [
        { "etc/default/contexts/lxc_contexts": "#".repeat(70_000) },
        InvalidArgumentError,
        /too long, want at most 65536 bytes/,
      ],
      [{ config: "SELINUXTYPE=../../x\n" }, InvalidArgumentError, /SELINUXTYPE of .*"\.\.\/\.\.\/x", want/],
      [{ config: "SELINUXTYPE=other\n" }, NotFoundError, /there is no .*other\/contexts\/lxc_contexts/],
    ];
    for (const [files, kind, message] of refusals) {
      await using on = await host(files);
      await assert.rejects(on.read(), (error) => {
        assert(error instanceof kind, String(error));
        assert.match(error.message, message);
        return true;
      });
    }
    await using without = await host();
    await rm(without.place("config"));
    await assert.rejects(without.read(), NotFoundError);
  });
});
