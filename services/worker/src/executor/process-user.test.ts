import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, mkdtempDisposable, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { processUser } from "./process-user.ts";
import { Rootfs } from "./rootfs.ts";

/** The root of an image, opened, with the databases that are given. */
async function image(databases: { readonly passwd?: string; readonly group?: string } = {}) {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await mkdtempDisposable(join(tmpdir(), "users-")));
  await mkdir(join(path, "etc"));
  for (const [name, content] of Object.entries(databases)) {
    await writeFile(join(path, "etc", name), content);
  }
  const rootfs = undo.use(new Rootfs(path));
  const owned = undo.move();
  return { path, rootfs, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const passwd = "root:x:0:0::/root:/bin/sh\n::7:7::/:\napp:x:1000:1001::/home/app:/bin/sh\n1234:x:55:56::/:\n";
const group = "root:x:0:\napp:x:1001:\nextra:x:2000:other,app\nlast:x:3000:app\n";

describe("the user of a step", () => {
  const cases: readonly [wanted: string, uid: number, gid: number, additionalGids: readonly number[]][] = [
    ["", 0, 0, [0]],
    [":", 0, 0, [0]],
    ["app", 1000, 1001, [1001, 2000, 3000]],
    ["1000", 1000, 1001, [1001, 2000, 3000]],
    ["app:", 1000, 1001, [1001, 2000, 3000]],
    ["app:extra", 1000, 2000, [2000]],
    ["app:77", 1000, 77, [77]],
    ["77", 77, 0, [0]],
    ["77:78", 77, 78, [78]],
    ["1234", 55, 56, [56]],
    [":extra", 0, 2000, [2000]],
    [":77", 0, 77, [77]],
    ["root:root", 0, 0, [0]],
  ];
  for (const [wanted, uid, gid, additionalGids] of cases) {
    test(`is found for ${JSON.stringify(wanted)}`, async () => {
      await using on = await image({ passwd, group });
      assert.deepEqual(processUser(wanted, on.rootfs), { uid, gid, additionalGids });
    });
  }

  test("needs no databases if it is root's or all numbers", async () => {
    await using on = await image();
    for (const [wanted, uid, gid] of [
      ["", 0, 0],
      ["root:root", 0, 0],
      ["5:root", 5, 0],
      ["root:5", 0, 5],
      ["5:6", 5, 6],
      ["5", 5, 0],
    ] as const) {
      assert.deepEqual(processUser(wanted, on.rootfs), { uid, gid, additionalGids: [gid] }, wanted);
    }
    assert.throws(() => processUser("root", on.rootfs), /unable to find user root: no matching entries/);
  });

  test("is not looked for where there is no file", async () => {
    {
      await using on = await image();
      await symlink("passwd", join(on.path, "etc/passwd"));
      assert.throws(
        () => processUser("app", on.rootfs),
        /Cannot follow \/etc\/passwd in the image: too many links/,
      );
    }
    {
      await using on = await image();
      const server = createServer().listen(join(on.path, "etc/passwd"));
      await once(server, "listening");
      assert.throws(() => processUser("app", on.rootfs), /\/etc\/passwd of the image: it is no regular file/);
      server.close();
    }
    await using directory = await mkdtempDisposable(join(tmpdir(), "users-"));
    await writeFile(join(directory.path, "etc"), "no directory");
    using rootfs = new Rootfs(directory.path);
    assert.throws(() => processUser("app", rootfs), /unable to find user app/);
  });
});
