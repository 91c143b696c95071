import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmod,
  lstat,
  mkdir,
  mkdtempDisposable,
  readdir,
  readlink,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import { setTimes } from "@oci-worker/libc/file";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { findRuntime } from "./find-runtime.ts";
import { fixture, run, runtimes, step } from "./sample-image.ts";
import type { Step } from "./step.ts";

for (const runtime of runtimes) {
  describe(`a step under ${basename(runtime)}`, () => {
    test("gives its output, streams apart, and its exit code", async () => {
      await using on = await fixture(runtime);
      const { code, stdout, stderr } = await run(
        on.executor,
        step(on.image, ["sh", "-c", "echo out; echo err >&2; exit 3"]),
      );
      assert.deepEqual({ code, stdout, stderr }, { code: 3, stdout: "out\n", stderr: "err\n" });
    });

    test("tells of a command that the image does not have", async () => {
      await using on = await fixture(runtime);
      const { code, complaint } = await run(on.executor, step(on.image, ["nope"]));
      assert.notEqual(code, 0);
      assert.match(
        complaint,
        /executable file .nope. not found in \$PATH|"nope": executable file not found in \$PATH/,
      );
    });

    test("runs as the user, in the directory and with the name that it asked for", async () => {
      await using on = await fixture(runtime);
      const script = "id -u; id -g; id -G; pwd; hostname; env";
      const { stdout } = await run(
        on.executor,
        step(on.image, ["sh", "-c", script], {
          user: "app",
          cwd: "/made/here",
          hostname: "box",
          env: ["PATH=/bin", "A=b c"],
        }),
      );
      const [uid, gid, groups, cwd, hostname, ...env] = stdout.trim().split("\n");
      assert.deepEqual([uid, gid, groups, cwd, hostname], ["1000", "1001", "1001 2000", "/made/here", "box"]);
      assert(env.includes("A=b c"));
      assert(env.includes("HOME=/home/app"));
      assert.equal((await lstat(join(on.image, "made/here"))).uid, 1000);
    });

    test("is refused for a user or a working directory that cannot be", async () => {
      await using on = await fixture(runtime);
      await symlink("/bin/busybox", join(on.image, "file"));
      const fail = (more: Partial<Step>) => run(on.executor, step(on.image, ["true"], more));
      await assert.rejects(fail({ user: "nobody" }), (error) => {
        assert(error instanceof NotFoundError);
        assert.equal(error.message, "unable to find user nobody: no matching entries in passwd file");
        return true;
      });
      await assert.rejects(fail({ user: "app:nobody" }), /unable to find group nobody/);
      await assert.rejects(fail({ user: "4294967296" }), /want 0 to 2147483647/);
      await assert.rejects(fail({ cwd: "/file/x" }), (error) => {
        assert(error instanceof InvalidArgumentError);
        assert.match(error.message, /working dir \/file\/x points to invalid target/);
        return true;
      });
    });

    test("reads the user database of its image alone, whatever links lie there", async () => {
      await using on = await fixture(runtime);
      await writeFile(join(on.path, "host-passwd"), "host:x:77:77::/:/bin/sh\n");
      await mkdir(join(on.image, "other"));
      await writeFile(join(on.image, "other/passwd"), "inner:x:55:55::/:/bin/sh\n");
      await symlink("/other/passwd", join(on.image, "etc/passwd-link"));
      execFileSync("mv", [join(on.image, "etc/passwd-link"), join(on.image, "etc/passwd")]);
      assert.equal((await run(on.executor, step(on.image, ["id", "-u"], { user: "inner" }))).stdout, "55\n");
      execFileSync("ln", ["-sf", join(on.path, "host-passwd"), join(on.image, "etc/passwd")]);
      await assert.rejects(
        run(on.executor, step(on.image, ["id"], { user: "host" })),
        /unable to find user host/,
      );
    });

    test("leaves no trace of mount points in its image, and times as they were", async () => {
      await using on = await fixture(runtime);
      setTimes(join(on.image, "etc"), 1_000_000_000_000_000_001n, 1_000_000_000_000_000_002n);
      setTimes(on.image, 1_000_000_000_000_000_003n, 1_000_000_000_000_000_004n);
      const before = await readdir(on.image, { recursive: true });
      const mounts = [
        { kind: "tmpfs", destination: "/deep/er/mount", sizeBytes: 0n, writable: true },
      ] as const;
      const { code, stderr } = await run(
        on.executor,
        step(on.image, ["touch", "/deep/er/mount/x"], { mounts }),
      );
      assert.equal(code, 0, stderr);
      assert.deepEqual(await readdir(on.image, { recursive: true }), before);
      assert.equal(
        (await lstat(join(on.image, "etc"), { bigint: true })).mtimeNs,
        1_000_000_000_000_000_002n,
      );
      assert.equal((await lstat(on.image, { bigint: true })).mtimeNs, 1_000_000_000_000_000_004n);
    });

    test("keeps what it wrote itself beside a mount point", async () => {
      await using on = await fixture(runtime);
      const mounts = [{ kind: "tmpfs", destination: "/data/mount", sizeBytes: 0n, writable: true }] as const;
      await run(on.executor, step(on.image, ["touch", "/data/mine", "/data/mount/gone"], { mounts }));
      assert.deepEqual(await readdir(join(on.image, "data")), ["mine"]);
    });

    test("sees snapshots where they are mounted, all or a part of them, writable or not", async () => {
      await using on = await fixture(runtime);
      const snapshot = join(on.path, "snapshot");
      await mkdir(join(snapshot, "part"), { recursive: true });
      await writeFile(join(snapshot, "part/file"), "in part\n");
      await symlink("/part", join(snapshot, "link"));
      const mounts = [{ type: "bind", source: snapshot, options: ["rw", "rbind"] }];
      const at = (destination: string, selector: string, writable: boolean) =>
        ({ kind: "snapshot", destination, mounts, selector, writable }) as const;
      const script = "cat /a/part/file /b/file; touch /a/new; touch /b/new";
      const { stdout, stderr } = await run(
        on.executor,
        step(on.image, ["sh", "-c", script], { mounts: [at("/a", "/", true), at("/b", "/link", false)] }),
      );
      assert.equal(stdout, "in part\nin part\n");
      assert.match(stderr, /\/b\/new: Read-only file system/);
      assert.deepEqual(await readdir(snapshot), ["link", "new", "part"]);
      await assert.rejects(
        run(on.executor, step(on.image, ["true"], { mounts: [at("/b", "/absent", false)] })),
        /no such path in its snapshot/,
      );
    });

    test("cannot write to a read-only root", async () => {
      await using on = await fixture(runtime);
      for (const name of ["proc", "dev", "sys"]) {
        await mkdir(join(on.image, name));
      }
      await writeFile(join(on.image, "etc/hosts"), "");
      await writeFile(join(on.image, "etc/resolv.conf"), "");
      const { stderr } = await run(on.executor, step(on.image, ["touch", "/x"], { readonlyRootfs: true }));
      assert.match(stderr, /Read-only file system/);
    });

    test("has a network of its own, without the host's, when it asks for none", async () => {
      await using on = await fixture(runtime);
      const script = "ls -l /proc/self/ns/net | grep -o 'net:.*'; grep -c : /proc/net/dev";
      const seen = async (network: "host" | "none") =>
        (await run(on.executor, step(on.image, ["sh", "-c", script], { network }))).stdout.split("\n");
      const own = await readlink("/proc/self/ns/net");
      const [namespace, interfaces] = await seen("none");
      assert.notEqual(namespace, own);
      assert.equal(interfaces, "1");
      const [hosts] = await seen("host");
      assert.equal(hosts, own);
    });

    test("finds the names it was told in its hosts file", async () => {
      await using on = await fixture(runtime);
      const extraHosts = [{ host: "db", ip: "10.0.0.7" }];
      const { stdout } = await run(
        on.executor,
        step(on.image, ["cat", "/etc/hosts", "/etc/resolv.conf"], { extraHosts }),
      );
      assert.match(stdout, /^127\.0\.0\.1\tlocalhost buildkitsandbox\n/);
      assert.match(stdout, /^10\.0\.0\.7\tdb$/m);
      assert.match(stdout, /^nameserver \S+$/m);
    });

    test("is killed with all its processes when it is canceled, and leaves nothing", async () => {
      await using on = await fixture(runtime);
      const controller = new AbortController();
      const marker = `sleep-${process.pid}`;
      const script = `trap "" TERM INT; (exec -a ${marker} sleep 3000) & echo started; sleep 3000`;
      const started = Promise.withResolvers<void>();
      const what = step(on.image, ["sh", "-c", script]);
      const running = on.executor.run(what, { onOutput: () => started.resolve() }, controller.signal);
      await started.promise;
      controller.abort();
      assert.equal((await running).code, 137);
    });

    test("that is canceled before it starts does not start", async () => {
      await using on = await fixture(runtime);
      const signal = AbortSignal.abort(new Error("taken back"));
      await assert.rejects(run(on.executor, step(on.image, ["touch", "/started"]), signal), /taken back/);
      assert(!(await readdir(on.image)).includes("started"));
    });
  });
}

describe("an executor", () => {
  test("removes the containers, mounts and bundles of one that was killed", async () => {
    await using on = await fixture();
    for (const secretEnv of [[], ["TOKEN=secret"]]) {
      const what = step(on.image, ["sh", "-c", "echo started; sleep 3000"], { secretEnv });
      const child = spawn(process.execPath, [
        "--input-type=module-typescript",
        "--eval",
        `import { Executor } from ${JSON.stringify(import.meta.resolve("./executor.ts"))};
       import { hostNetwork, Networks } from ${JSON.stringify(import.meta.resolve("../network/networks.ts"))};
       import { Runc } from ${JSON.stringify(import.meta.resolve("./runc.ts"))};
       const runc = new Runc({ binary: "runc", stateDirectory: ${JSON.stringify(join(on.path, "state"))} });
       const options = { directory: ${JSON.stringify(on.bundles)}, runc, networks: new Networks(hostNetwork), dns: { nameservers: [], searchDomains: [], options: [] }, syncsOnCommit: true, apparmorProfile: "" };
       await new Executor(options).run(${JSON.stringify(what)}, { onOutput: () => process.kill(process.pid, "SIGKILL") }, new AbortController().signal);`,
      ]);
      const [, signal] = await once(child, "exit");
      assert.equal(signal, "SIGKILL");
      const inMemory = on.runc.withState(join(on.bundles, what.id, "memory/state"));
      assert.deepEqual(await (secretEnv.length > 0 ? inMemory : on.runc).list(), [what.id]);
      assert.notDeepEqual(await mountPointsBeneath(on.bundles), []);
      await on.executor.recover();
      assert.deepEqual(await mountPointsBeneath(on.bundles), []);
    }
  });

  test("says what is missing when there is no runtime", async () => {
    await assert.rejects(findRuntime("no-such-runtime"), (error) => {
      assert(error instanceof NotFoundError);
      assert.match(error.message, /no no-such-runtime on PATH, want runc installed/);
      return true;
    });
    await using directory = await mkdtempDisposable(join(tmpdir(), "runtime-"));
    const file = join(directory.path, "runtime");
    await writeFile(file, "#!/bin/sh\n");
    await assert.rejects(findRuntime(file), NotFoundError);
    await chmod(file, 0o755);
    assert.equal(await findRuntime(file), file);
  });
});
