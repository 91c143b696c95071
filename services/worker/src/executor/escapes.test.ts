import assert from "node:assert/strict";
import { chmod, lstat, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { makeDevice, mknod, S_IFCHR, S_IFIFO } from "@oci-worker/libc/file";
import { fixture, run, runtimes, step } from "./sample-image.ts";
import type { Step, StepMount } from "./step.ts";

const tmpfs = (destination: string) =>
  ({ kind: "tmpfs", destination, sizeBytes: 0n, writable: true }) as const;

const snapshot = (destination: string, source: string, selector = "/"): StepMount => ({
  kind: "snapshot",
  destination,
  mounts: [{ type: "bind", source, options: ["rw", "rbind"] }],
  selector,
  writable: true,
});

/** A directory of the host that no step has any business with. */
async function makeOutside(path: string): Promise<string> {
  const outside = join(path, "outside");
  await mkdir(outside);
  await writeFile(join(outside, "marker"), "of the host\n");
  return outside;
}

for (const runtime of runtimes) {
  const name = basename(runtime);

  describe(`a step under ${name} cannot get out`, () => {
    test("by a working directory that is a descriptor of the runtime (CVE-2024-21626)", async () => {
      await using on = await fixture(runtime);
      await mkdir(join(on.image, "proc/self/fd/8"), { recursive: true });
      await symlink("/proc/self/fd/8", join(on.image, "link"));
      for (const cwd of ["/proc/self/fd/8", "/proc/self/../self/fd/8/", "/link", "/proc/1/cwd"]) {
        await assert.rejects(run(on.executor, step(on.image, ["ls"], { cwd })), (error) => {
          assert(error instanceof InvalidArgumentError);
          assert.match(error.message, /^working dir .* points to invalid target/);
          return true;
        });
      }
      // Links in what is mounted are the runtime's to follow. None of its descriptors may lead to the host.
      const mounted = join(on.path, "mounted");
      await mkdir(mounted);
      await writeFile(join(on.path, "marker"), "of the host\n");
      for (let descriptor = 3; descriptor < 16; descriptor += 1) {
        await symlink(`/proc/self/fd/${descriptor}`, join(mounted, `fd-${descriptor}`));
        const script =
          "for i in . .. ../.. ../../.. ../../../../../..; do cat $i/etc/shadow $i/marker; done; true";
        const { stdout } = await run(
          on.executor,
          step(on.image, ["sh", "-c", script], {
            cwd: `/mounted/fd-${descriptor}`,
            mounts: [snapshot("/mounted", mounted)],
          }),
        );
        assert.equal(stdout, "", `descriptor ${descriptor}`);
      }
    });

    test("by a descriptor that it inherits (CVE-2024-21626)", async () => {
      await using on = await fixture(runtime);
      const { stdout } = await run(on.executor, step(on.image, ["sh", "-c", "echo /proc/self/fd/*"]));
      // The shell reads the directory itself by a fourth one.
      assert.match(
        stdout,
        /^\/proc\/self\/fd\/0 \/proc\/self\/fd\/1 \/proc\/self\/fd\/2( \/proc\/self\/fd\/3)?\n$/,
      );
    });

    test("by a link put in the place of a selected directory (CVE-2024-23651)", async () => {
      await using outer = await fixture();
      const outside = await makeOutside(outer.path);
      const cache = join(outer.path, "cache");
      await mkdir(join(cache, "sub"), { recursive: true });
      await writeFile(join(cache, "sub/inner"), "");
      // What another step with the same cache does at the worst moment: after the look, before the mount.
      const swapping = join(outer.path, "runtime");
      const swap = `mv ${cache}/sub ${cache}/aside && ln -s ${outside} ${cache}/sub`;
      await writeFile(
        swapping,
        `#!/bin/sh\ncase "$*" in *" run "*) ${swap} || exit 9;; esac\nexec ${runtime} "$@"\n`,
      );
      await chmod(swapping, 0o755);
      await using on = await fixture(swapping);
      const { stdout, stderr } = await run(
        on.executor,
        step(on.image, ["ls", "/cache"], { mounts: [snapshot("/cache", cache, "/sub")] }),
      );
      assert.equal(stdout, "inner\n", stderr);
      assert((await lstat(join(cache, "sub"))).isSymbolicLink());
      // And when the link is there before.
      await writeFile(swapping, `#!/bin/sh\nexec ${runtime} "$@"\n`);
      await assert.rejects(
        run(on.executor, step(on.image, ["ls"], { mounts: [snapshot("/cache", cache, "/sub")] })),
        /there is no such path in its snapshot/,
      );
    });

    test("by a link put in the place of a mount point, which is then removed (CVE-2024-23652)", async () => {
      await using on = await fixture(runtime);
      const outside = await makeOutside(on.path);
      await mkdir(join(outside, "mount"));
      await writeFile(join(outside, "file"), "");
      const script = `mv /stub /moved && ln -s ${outside} /stub && mv /other /gone && ln -s ${outside} /other`;
      const { code, stderr } = await run(
        on.executor,
        step(on.image, ["sh", "-c", script], { mounts: [tmpfs("/stub/mount"), tmpfs("/other/file")] }),
      );
      assert.equal(code, 0, stderr);
      assert((await lstat(join(on.image, "stub"))).isSymbolicLink());
      assert.deepEqual(await readdir(outside), ["file", "marker", "mount"]);
    });

    test("by a mount over /proc or in it, however it is spelt", async () => {
      await using on = await fixture(runtime);
      await symlink("/proc", join(on.image, "link"));
      await symlink("proc/self", join(on.image, "nowhere-yet"));
      const places = ["/proc", "/proc/self", "/proc/self/attr", "/link/sys", "/nowhere-yet", "/bin/../proc"];
      for (const destination of places) {
        await assert.rejects(
          run(on.executor, step(on.image, ["ls"], { mounts: [tmpfs(destination)] })),
          (error) => {
            assert(error instanceof InvalidArgumentError);
            assert.match(error.message, /^Cannot mount at .*: it is in \/proc/);
            return true;
          },
        );
      }
    });

    test("by links of its image in the place of the kernel's directories", async () => {
      for (const name of ["proc", "sys", "dev"]) {
        await using on = await fixture(runtime);
        const outside = await makeOutside(on.path);
        // runc makes links such as /dev/stdin by the name, on the host.
        await symlink(outside, join(on.image, name));
        await assert.rejects(run(on.executor, step(on.image, ["ls"])), (error) => {
          assert(error instanceof InvalidArgumentError);
          assert.match(error.message, new RegExp(`/${name} is a symbolic link in it, want a directory`));
          return true;
        });
        assert.deepEqual(await readdir(outside), ["marker"]);
      }
    });

    test("by links of its image in the place of its working directory or a mount point", async () => {
      await using on = await fixture(runtime);
      const outside = await makeOutside(on.path);
      const up = `../../../../../../../..${outside}`;
      await symlink(up, join(on.image, "up"));
      await symlink(outside, join(on.image, "absolute"));
      for (const link of ["/up", "/absolute"]) {
        const mounts = [tmpfs(`${link}/mount`)];
        await run(on.executor, step(on.image, ["ls"], { mounts }));
        const elsewhere = run(on.executor, step(on.image, ["pwd"], { cwd: `${link}/cwd` }));
        await elsewhere.catch((error) => assert.match(String(error), /points to invalid target/));
      }
      assert.deepEqual(await readdir(outside), ["marker"]);
    });

    test("by what its user database holds", async () => {
      await using on = await fixture(runtime);
      const passwd = join(on.image, "etc/passwd");
      const as = (user: string) => run(on.executor, step(on.image, ["id", "-u"], { user }));
      const hostile = [
        "x:x:4294967295:0::/:/bin/sh",
        "y:x:0:4294967295::/:/bin/sh",
        "z:x:99999999999999999999:0::/:",
        "negative:x:-1:-1::/:",
        "short:x",
        ":::::",
        "good:x:12:13::/:/bin/sh",
      ];
      await writeFile(passwd, hostile.join("\n"));
      for (const user of ["x", "y", "z"]) {
        await assert.rejects(as(user), /want 0 to 2147483647/);
      }
      for (const user of ["negative", "short"]) {
        await assert.rejects(as(user), /unable to find user/);
      }
      assert.equal((await as("good")).stdout, "12\n");
      await writeFile(join(on.image, "etc/group"), "big:x:4294967295:good\n");
      await assert.rejects(as("good"), /want 0 to 2147483647/);
      await assert.rejects(as("good:big"), /want 0 to 2147483647/);

      await writeFile(passwd, Buffer.alloc(11 * 1024 * 1024, "a"));
      await assert.rejects(as("good"), ResourceExhaustedError);
      await rm(passwd);
      mknod(passwd, S_IFIFO | 0o644, 0n);
      await assert.rejects(as("good"), /it is no regular file/);
      await rm(passwd);
      mknod(passwd, S_IFCHR | 0o644, makeDevice(1, 3));
      await assert.rejects(as("good"), /it is no regular file/);
      // Root needs no database.
      assert.equal((await as("")).stdout, "0\n");
    });

    test("by lines that it writes into its hosts file", async () => {
      await using on = await fixture(runtime);
      const refused: readonly [Partial<Step>, RegExp][] = [
        [{ hostname: "a\n10.0.0.1 registry" }, /as hostname: want/],
        [{ hostname: "a".repeat(65) }, /as hostname: want 1 to 64 characters/],
        [{ extraHosts: [{ host: "a\n10.0.0.1 b", ip: "10.0.0.2" }] }, /as a host name: want one word/],
        [{ extraHosts: [{ host: "a", ip: "10.0.0.2\n10.0.0.1 b" }] }, /failed to parse IP/],
        [{ extraHosts: [{ host: "a", ip: "" }] }, /failed to parse IP/],
      ];
      for (const [more, message] of refused) {
        await assert.rejects(run(on.executor, step(on.image, ["ls"], more)), (error) => {
          assert(error instanceof InvalidArgumentError);
          assert.match(error.message, message);
          return true;
        });
      }
    });

    test("with the privileges of the sandbox", async () => {
      await using on = await fixture(runtime);
      const script = [
        "grep -E '^(CapEff|CapInh|CapAmb|Seccomp):' /proc/self/status",
        "mount -t tmpfs tmpfs /tmp-absent 2>&1; echo x > /proc/sys/kernel/hostname",
        "cat /proc/kcore | head -c 1 | wc -c; D=/sys/fs/cgroup; test -d $D/memory && D=$D/memory; mkdir $D/x; mknod /dev/x b 7 0; cat /dev/x",
      ].join("; ");
      const { stdout, stderr } = await run(on.executor, step(on.image, ["sh", "-c", script]));
      assert.match(stdout, /^CapInh:\t0{16}$/m);
      assert.match(stdout, /^CapEff:\t00000000a80425fb$/m);
      assert.match(stdout, /^CapAmb:\t0{16}$/m);
      assert.match(stdout, /^Seccomp:\t2$/m);
      assert.match(stderr, /hostname: Read-only file system/);
      assert.match(stderr, /cgroup.*\/x.*Read-only file system/);
      assert.match(stderr, /\/dev\/x.*Operation not permitted/);
    });
  });

  describe(`a step under ${name} with security.insecure`, () => {
    test("has all capabilities, no filter, devices, and may write to /sys and mount", async () => {
      await using on = await fixture(runtime);
      await mkdir(join(on.image, "mnt"));
      const script = [
        "grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status",
        "mount -t tmpfs tmpfs /mnt && touch /mnt/x && echo mounted",
        "ls /dev/fuse /dev/loop-control /dev/loop0 /dev/kmsg; D=/sys/fs/cgroup; test -d $D/memory && D=$D/memory; mkdir $D/x && rmdir $D/x && echo made",
      ].join("; ");
      const { stdout, stderr } = await run(
        on.executor,
        step(on.image, ["sh", "-c", script], { insecure: true }),
      );
      const own = /^CapBnd:\t(\S+)$/m.exec(await readFile("/proc/self/status", "utf8"))?.[1];
      assert.match(stdout, new RegExp(`^CapEff:\\t${own}$`, "m"), stderr);
      assert.match(stdout, /^Seccomp:\t0$/m);
      assert.match(stdout, /^mounted$/m);
      assert.match(stdout, /\/dev\/fuse\n\/dev\/kmsg\n\/dev\/loop-control\n\/dev\/loop0\nmade\n$/);
    });
  });
}
