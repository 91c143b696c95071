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
      assert.deepEqual(parseOptions(options), { flags, propagation, data });
    });
  }

  for (const option of ["loop", "uidmap=0:1000:1", "gidmap=0:1000:1", "X-containerd.mkdir.path=/x"]) {
    test(`${option} is refused by name, as the kernel would only say EINVAL`, () => {
      assert.throws(
        () => parseOptions(["ro", option]),
        (error) => error instanceof InvalidArgumentError && error.message.includes(option),
      );
    });
  }
});
