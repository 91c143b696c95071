import assert from "node:assert/strict";
import { on as eventsOf } from "node:events";
import { watch } from "node:fs";
import { chmod, chown, copyFile, lstat, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { lsetxattr } from "@oci-worker/libc/xattr";
import { type Mount, mountAll } from "@oci-worker/mounts/mount";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { noEdits } from "../cdi/container-edits.ts";
import { UserRemap } from "../remap/user-remap.ts";
import { pidFileIn, pidIn } from "./pid-file.ts";
import { fixture, run, runtimes, step } from "./sample-image.ts";
import type { StartedProcess } from "./stdio/streams.ts";
import type { Step } from "./step.ts";

const ids = { user: "somebody", uids: "0:100000:65536", gids: "0:200000:65536" };

/** An executor whose steps are remapped, with directories for an overlay over its image. */
async function remapped(runtime: string) {
  await using undo = new AsyncDisposableStack();
  const remap = undo.use(await UserRemap.open(ids));
  const on = undo.use(await fixture(runtime, { remap }));
  const at = (name: string) => join(on.path, name);
  for (const name of ["empty", "snapshot/fs", "snapshot/work", "other/fs", "other/work"]) {
    await mkdir(at(name), { recursive: true });
  }
  const overlay = (snapshot: string, ...lowers: string[]): Mount[] => [
    {
      type: "overlay",
      source: "overlay",
      options: [
        `workdir=${at(`${snapshot}/work`)}`,
        `upperdir=${at(`${snapshot}/fs`)}`,
        `lowerdir=${lowers.join(":")}`,
      ],
    },
  ];
  const owned = undo.move();
  return {
    ...on,
    at,
    overlay,
    /** Runs a shell script on an overlay over the image, what it writes being in snapshot/fs. */
    script: (text: string, more: Partial<Step> = {}) =>
      run(
        on.executor,
        step(on.image, ["sh", "-ec", text], {
          rootMounts: overlay("snapshot", at("empty"), on.image),
          ...more,
        }),
      ),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The number of a running step's first process, which the runtime writes down when it has started it. */
async function pidOf(bundle: string): Promise<number> {
  const watcher = watch(bundle);
  using _closed = { [Symbol.dispose]: () => watcher.close() };
  const changes = eventsOf(watcher, "change");
  for (;;) {
    const pid = await pidIn(pidFileIn(bundle));
    if (pid !== undefined) {
      return pid;
    }
    await changes.next();
  }
}

const unaborted = new AbortController().signal;

async function ownerOf(path: string): Promise<string> {
  const { uid, gid } = await lstat(path);
  return `${uid}:${gid}`;
}

for (const runtime of runtimes) {
  describe(`a remapped step under ${basename(runtime)}`, () => {
    test("is root in its own eyes, and somebody of no account on the host", async () => {
      await using on = await remapped(runtime);
      const started = Promise.withResolvers<void>();
      const controller = new AbortController();
      const what = step(on.image, ["sh", "-c", "id -u; id -g; sleep 3000"], {
        rootMounts: on.overlay("snapshot", on.at("empty"), on.image),
      });
      let output = "";
      const running = on.executor.run(
        what,
        {
          onOutput: (_stream, chunk) => {
            output += chunk.toString();
            if (output === "0\n0\n") {
              started.resolve();
            }
          },
        },
        controller.signal,
      );
      await Promise.race([started.promise, running]);
      const pid = await pidOf(join(on.bundles, what.id));
      const status = await readFile(`/proc/${pid}/status`, "utf8");
      const maps = await Promise.all(
        ["uid_map", "gid_map"].map((name) => readFile(`/proc/${pid}/${name}`, "utf8")),
      );
      controller.abort();
      assert.equal((await running).code, 137);
      assert.match(status, /^Uid:\t100000\t100000\t100000\t100000$/m);
      assert.match(status, /^Gid:\t200000\t200000\t200000\t200000$/m);
      assert.deepEqual(
        maps.map((map) => map.trim().split(/\s+/)),
        [
          ["0", "100000", "65536"],
          ["0", "200000", "65536"],
        ],
      );
    });

    test("writes files that are on the disk what they are in its eyes", async () => {
      await using on = await remapped(runtime);
      await mkdir(join(on.image, "home"));
      await writeFile(join(on.image, "home/file"), "");
      await chown(join(on.image, "home/file"), 1000, 1000);
      await writeFile(join(on.image, "gone"), "");
      const text = `
        stat -c '%u:%g' /bin/busybox /home/file /etc/hosts /etc/resolv.conf / /dev/shm
        echo x >/new; mkdir /directory; chown 1000:1001 /directory; echo y >>/home/file; rm /gone
        chmod 4755 /new
      `;
      const { code, stdout, stderr } = await on.script(text);
      assert.deepEqual([code, stderr], [0, ""]);
      assert.deepEqual(stdout.split("\n"), [...["0:0", "1000:1000", "0:0", "0:0", "0:0", "0:0"], ""]);
      const stored = on.at("snapshot/fs");
      const owners = await Promise.all(
        ["new", "directory", "home/file", "gone", "."].map((name) => ownerOf(join(stored, name))),
      );
      assert.deepEqual(owners, ["0:0", "1000:1001", "1000:1000", "0:0", "0:0"]);
      assert.equal((await lstat(join(stored, "new"))).mode & 0o7777, 0o4755);
      assert.deepEqual((await readdir(stored)).sort(), ["directory", "etc", "gone", "home", "new"]);
    });

    test("runs as the user, and in the directory, that it asked for", async () => {
      await using on = await remapped(runtime);
      await mkdir(join(on.image, "home"));
      await chown(join(on.image, "home"), 1000, 1001);
      await chmod(join(on.image, "home"), 0o700);
      const more = { user: "app", cwd: "/home/made/here" };
      const { code, stdout, stderr } = await on.script("id -u; id -g; id -G; pwd; touch mine", more);
      assert.deepEqual([code, stderr], [0, ""]);
      assert.equal(stdout, "1000\n1001\n1001 2000\n/home/made/here\n");
      for (const name of ["made", "made/here", "made/here/mine"]) {
        assert.equal(await ownerOf(join(on.at("snapshot/fs/home"), name)), "1000:1001", name);
      }
    });

    test("is refused for ids that it cannot have", async () => {
      await using on = await remapped(runtime);
      const refused = (error: unknown) => {
        assert(error instanceof InvalidArgumentError, String(error));
        assert.match(
          error.message,
          /^Cannot give (user|group) 65536 to a step: steps are remapped to the ids of user somebody, want one of 0 to 65535$/,
        );
        return true;
      };
      const fail = (more: Partial<Step>) => run(on.executor, step(on.image, ["true"], more));
      await assert.rejects(fail({ user: "65536" }), refused);
      await assert.rejects(fail({ user: "0:65536" }), refused);
      const owner = { uid: 65_536, gid: 0, mode: 0o400 };
      const secret = { kind: "secret", destination: "/secret", content: Buffer.from("x"), owner } as const;
      await assert.rejects(fail({ mounts: [secret] }), refused);
      await mkdir(join(on.image, "far"));
      await chown(join(on.image, "far"), 65_536, 0);
      await assert.rejects(fail({ cwd: "/far/below" }), (error) => {
        assert(error instanceof InvalidArgumentError, String(error));
        assert.match(
          error.message,
          /^Cannot make working dir \/far\/below: .* whose id steps do not have, want another$/,
        );
        return true;
      });
      assert.match((await on.script("chown 65536 /etc/passwd")).stderr, /Invalid argument/);
    });

    test("is given secrets, sockets and snapshots as its own", async () => {
      await using on = await remapped(runtime);
      await mkdir(on.at("cache/part"), { recursive: true });
      await writeFile(on.at("cache/part/file"), "cached\n");
      const directory = { type: "bind", source: on.at("cache"), options: ["rw", "rbind"] };
      const mounts: Step["mounts"] = [
        {
          kind: "secret",
          destination: "/run/secret",
          content: Buffer.from("secret\n"),
          owner: { uid: 1000, gid: 1001, mode: 0o400 },
        },
        {
          kind: "agent",
          destination: "/run/agent",
          owner: { uid: 0, gid: 0, mode: 0o600 },
          connect: (connection) => connection.destroy(),
        },
        {
          ...{ kind: "snapshot", destination: "/cache", mounts: [directory], selector: "/" },
          writable: true,
        },
        {
          ...{ kind: "snapshot", destination: "/part", mounts: [directory], selector: "/part" },
          writable: false,
        },
        {
          ...{ kind: "snapshot", destination: "/layers", selector: "/", writable: true },
          mounts: on.overlay("other", on.at("empty"), on.at("cache")),
        },
        { kind: "tmpfs", destination: "/scratch", sizeBytes: 0n, writable: true },
      ];
      const text = `
        stat -c '%u:%g %a' /run/secret /run/agent; cat /run/secret /part/file /layers/part/file
        stat -c '%u:%g' /cache/part /part/file /layers/part/file /scratch
        touch /cache/new /layers/part/new /scratch/new; ! touch /part/new 2>/dev/null
      `;
      const { code, stdout, stderr } = await on.script(text, { mounts });
      assert.deepEqual([code, stderr], [0, ""]);
      assert.deepEqual(stdout.split("\n"), [
        ...["1000:1001 400", "0:0 600", "secret", "cached", "cached", "0:0", "0:0", "0:0", "0:0"],
        "",
      ]);
      for (const name of ["cache/new", "other/fs/part", "other/fs/part/new"]) {
        assert.equal(await ownerOf(on.at(name)), "0:0", name);
      }
    });

    test("is given what capabilities the files of its image have", async () => {
      await using on = await remapped(runtime);
      const program = join(on.image, "bin/busybox-chowner");
      await copyFile("/bin/busybox", program);
      await chmod(program, 0o755);
      // struct vfs_cap_data (linux/capability.h) of version 2: CAP_CHOWN, effective.
      const capabilities = Buffer.alloc(20);
      capabilities.writeUInt32LE(0x0200_0001, 0);
      capabilities.writeUInt32LE(1 << 0, 4);
      lsetxattr(program, "security.capability", capabilities);
      await writeFile(join(on.image, "file"), "");
      const text = "! busybox chown 1000 /file 2>/dev/null; busybox-chowner chown 1000 /file";
      const { code, stderr } = await on.script(text, { user: "app" });
      assert.deepEqual([code, stderr], [0, ""]);
      assert.equal(await ownerOf(on.at("snapshot/fs/file")), "1000:0");
    });

    test("has the devices that it is granted, those of the host", async () => {
      await using on = await remapped(runtime);
      const node = {
        ...{ path: "/dev/mine", hostPath: "/dev/full", permissions: "rwm" },
        ...{ type: undefined, major: undefined, minor: undefined, fileMode: undefined },
        ...{ uid: undefined, gid: undefined },
      };
      const edits = { ...noEdits, deviceNodes: [node] };
      const { code, stdout, stderr } = await on.script("stat -c %t:%T /dev/mine; echo x >/dev/mine", {
        edits,
      });
      assert.equal(stdout, "1:7\n");
      assert.match(stderr, /No space left on device/);
      assert.equal(code, 1);
    });

    for (const network of ["none", "host"] as const) {
      test(`has /sys, and cgroups, with network ${network}`, async () => {
        await using on = await remapped(runtime);
        const text = "ls /sys/class/net; ls /sys/fs/cgroup >/dev/null; ! touch /sys/x 2>/dev/null";
        const { code, stdout, stderr } = await on.script(text, { network });
        assert.deepEqual([code, stderr], [0, ""]);
        assert.match(stdout, /^lo$/m);
      });
    }

    test("may do with security.insecure what its user namespace allows", async () => {
      await using on = await remapped(runtime);
      const text = `
        mkdir /m; mount -t tmpfs tmpfs /m; touch /m/x; hostname changed; hostname; stat -c %F /dev/fuse
        ! cat /dev/kmsg 2>/dev/null; ! mknod /null c 1 3 2>/dev/null
      `;
      const { code, stdout, stderr } = await on.script(text, { insecure: true, network: "none" });
      assert.deepEqual([code, stderr], [0, ""]);
      assert.equal(stdout, "changed\ncharacter special file\n");
    });

    for (const user of ["", "app"]) {
      test(`may open its output again as ${user || "root"}`, async () => {
        await using on = await remapped(runtime);
        const text = "echo out >/dev/stdout; echo err >/dev/stderr";
        const { code, stdout, stderr } = await on.script(text, { user });
        assert.deepEqual([code, stdout, stderr], [0, "out\n", "err\n"]);
      });
    }

    for (const terminal of [false, true]) {
      test(`has further processes like itself, ${terminal ? "in" : "without"} a terminal`, async () => {
        await using on = await remapped(runtime);
        const started = Promise.withResolvers<StartedProcess>();
        const what = step(on.image, ["sleep", "3000"]);
        const controller = new AbortController();
        const running = on.executor.run(
          what,
          { onStart: started.resolve, onOutput: () => undefined },
          controller.signal,
        );
        await using _ended = {
          async [Symbol.asyncDispose]() {
            controller.abort();
            await running;
          },
        };
        await Promise.race([started.promise, running]);
        const exec = async (script: string, user: string) => {
          let output = "";
          const more = { env: ["PATH=/bin"], secretEnv: [], cwd: "", user };
          const streams = {
            terminal,
            onOutput: (_stream: 1 | 2, chunk: Buffer) => {
              output += chunk.toString();
            },
          };
          const exit = await on.executor.exec(
            what.id,
            { args: ["sh", "-c", script], ...more },
            streams,
            unaborted,
          );
          return { code: exit.code, output: output.replaceAll("\r", "") };
        };
        const script =
          "id -u; touch /by-$(id -u); read inside outside size </proc/self/uid_map; echo $inside $outside; echo x >/dev/stdout";
        assert.deepEqual(await exec(script, ""), { code: 0, output: "0\n0 100000\nx\n" });
        assert.deepEqual(await exec("id -u; id -g; echo x", "app"), {
          code: 0,
          output: "1000\n1001\nx\n",
        });
        await assert.rejects(exec("true", "65536"), /Cannot give user 65536 to a step/);
        assert.equal(await ownerOf(join(on.image, "by-0")), "0:0");
      });
    }
  });
}

test("what a worker that was killed has left of a mount is removed", async () => {
  await using on = await remapped("runc");
  const mapped = join(on.bundles, "left/mapped-x");
  await mkdir(mapped, { recursive: true });
  await mountAll([{ type: "tmpfs", source: "tmpfs", options: [] }], mapped);
  await mkdir(join(mapped, "0"));
  await mountAll([{ type: "bind", source: on.image, options: ["bind"] }], join(mapped, "0"));
  await on.executor.recover();
  assert.deepEqual(await readdir(on.bundles), []);
  assert.deepEqual(await mountPointsBeneath(on.bundles), []);
  assert((await readdir(on.image)).includes("bin"));
});
