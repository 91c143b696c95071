import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import {
  MS_BIND,
  MS_NODEV,
  MS_NOSUID,
  MS_PRIVATE,
  MS_RDONLY,
  MS_REC,
  MS_SLAVE,
} from "@oci-worker/libc/mount";
import { parseOptions } from "./options.ts";

describe("mount options", () => {
  const cases: readonly (readonly [options: string[], flags: bigint, propagation: bigint, data: string[]])[] =
    [
      [[], 0n, 0n, []],
      [["rbind", "ro"], MS_BIND | MS_REC | MS_RDONLY, 0n, []],
      [["ro", "nosuid", "rw"], MS_NOSUID, 0n, []],
      [["rw", "ro"], MS_RDONLY, 0n, []],
      [["defaults", "", "nodev"], MS_NODEV, 0n, []],
      [["private", "rslave"], 0n, MS_SLAVE | MS_REC, []],
      [["bind", "private"], MS_BIND, MS_PRIVATE, []],
      [
        ["workdir=/w", "upperdir=/u,x", "lowerdir=/a:/b", "index=off", "userxattr"],
        0n,
        0n,
        ["workdir=/w", "upperdir=/u,x", "lowerdir=/a:/b", "index=off", "userxattr"],
      ],
      [["toString", "constructor"], 0n, 0n, ["toString", "constructor"]],
    ];
  for (const [options, flags, propagation, data] of cases) {
    test(`${JSON.stringify(options)} is read as mount(8) does`, () => {
      assert.deepEqual(parseOptions(options), { flags, propagation, idMap: undefined, data });
    });
  }

  test("maps of ids are neither flags nor for the file system", () => {
    assert.deepEqual(parseOptions(["uidmap=0:5:1", "gidmap=0:6:1,1:7:1", "rbind", "x=y"]), {
      flags: MS_BIND | MS_REC,
      propagation: 0n,
      idMap: { uids: "0:5:1", gids: "0:6:1,1:7:1" },
      data: ["x=y"],
    });
  });

  for (const option of ["uidmap=0:5:1", "gidmap=0:5:1"]) {
    test(`${option} is refused alone`, () => {
      assert.throws(() => parseOptions([option]), /want both or none/);
    });
  }

  for (const option of ["loop", "X-containerd.mkdir.path=/x", "uidmap=0"]) {
    test(`${option} is refused by name, as the kernel would only say EINVAL`, () => {
      assert.throws(
        () => parseOptions(["ro", option]),
        (error) =>
          error instanceof InvalidArgumentError && error.message.includes(option.split("=")[0] ?? ""),
      );
    });
  }
});
