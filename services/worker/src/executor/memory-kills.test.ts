import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { glob, mkdir, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { readKernelLog } from "@oci-worker/libc/kernel-log";
import { isKilled } from "./memory-kills.ts";
import { fixture, run, runtimes, step } from "./sample-image.ts";

type Fixture = Awaited<ReturnType<typeof fixture>>;

/** Takes 200 MB, as one process. */
const hungry = "dd if=/dev/zero of=/dev/null bs=200000000 count=1";

/** Ends like one that the kernel has killed for that, and is not. */
const ownKill = "sh -c 'kill -KILL $$'; exit $?";

/** How `script` ends as a step of its own: its code, and whether that is said to be for want of memory. */
async function endOf(on: Fixture, script: string, cgroupParent = "") {
  const { code, outOfMemory } = await run(
    on.executor,
    step(on.image, ["sh", "-c", script], { cgroupParent }),
  );
  return { code, outOfMemory };
}

async function endsTooSoon(running: ReturnType<typeof run>): Promise<never> {
  throw new Error(`the step has ended too soon: ${JSON.stringify(await running)}`);
}

/** Such a step, alone in its image, that waits, when it has started, until it may go on. */
function waitingStep(on: Fixture, script: string, cgroupParent = "") {
  const gate = join(on.image, "gate");
  execFileSync("/usr/bin/mkfifo", [gate]);
  const args = ["sh", "-c", `echo started; read x < /gate; ${script}`];
  const started = Promise.withResolvers<void>();
  const running = run(on.executor, step(on.image, args, { cgroupParent }), undefined, started.resolve);
  return {
    started: Promise.race([started.promise, endsTooSoon(running)]),
    goOn: async () => {
      await writeFile(gate, "go\n");
      await rm(gate);
      const { code, outOfMemory } = await running;
      return { code, outOfMemory };
    },
  };
}

const isFirstVersion = existsSync("/sys/fs/cgroup/memory");
const memoryTree = isFirstVersion ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup";

/** How many small cgroups there have been. */
let cgroups = 0;

/**
 * A cgroup whose processes have 64 MiB together, so that the runtime has enough. Disposing removes it, and what the runtime
 * has made in it.
 */
async function smallCgroup() {
  cgroups += 1;
  const name = `small-${cgroups}-test-${process.pid}`;
  const path = join(memoryTree, name);
  await mkdir(path);
  await writeFile(join(path, isFirstVersion ? "memory.limit_in_bytes" : "memory.max"), String(64 << 20));
  const remove = async () => {
    for (const made of [`${name}/buildkit`, name]) {
      for await (const directory of glob(`/sys/fs/cgroup/{*/,}${made}`)) {
        await rmdir(directory);
      }
    }
  };
  return { name, path, [Symbol.asyncDispose]: remove };
}

/**
 * Does `scene`, in which there is one kill in each small cgroup, until the kernel has logged all of them: it logs no more than
 * ten in five seconds.
 */
async function whenLogged<T>(scene: () => Promise<T>): Promise<T> {
  for (;;) {
    const before = cgroups;
    const result = await scene();
    const log = readKernelLog();
    const made = Array.from(
      { length: cgroups - before },
      (_, index) => `/small-${before + index + 1}-test-${process.pid}`,
    );
    if (made.every((name) => new RegExp(`task_memcg=\\S*${name}[/,]`).test(log))) {
      return result;
    }
  }
}

/** Has the kernel kill a process that is no step's. */
async function killElsewhere(): Promise<void> {
  await using cgroup = await smallCgroup();
  const child = spawn("sh", ["-c", `echo $$ > ${cgroup.path}/cgroup.procs; exec ${hungry}`]);
  assert.deepEqual(await once(child, "exit"), [null, "SIGKILL"]);
}

for (const runtime of runtimes) {
  describe(`a step under ${basename(runtime)}`, () => {
    test("is told that the kernel has killed it for want of memory, or a part of it, several at a time", async () => {
      const scripts = [`exec ${hungry}`, `${hungry}; exit 3`, `${hungry}; true`];
      const ends = await whenLogged(() =>
        Promise.all(
          scripts.map(async (script) => {
            await using on = await fixture(runtime);
            await using cgroup = await smallCgroup();
            return await endOf(on, script, cgroup.name);
          }),
        ),
      );
      assert.deepEqual(ends, [
        { code: 137, outOfMemory: true },
        { code: 3, outOfMemory: true },
        // It has not failed.
        { code: 0, outOfMemory: false },
      ]);
    });

    test("that ends by a signal, or as if by one, is not", async () => {
      await using on = await fixture(runtime);
      assert.deepEqual(await endOf(on, "exit 137"), { code: 137, outOfMemory: false });
      assert.deepEqual(await endOf(on, ownKill), { code: 137, outOfMemory: false });
      assert.deepEqual(await endOf(on, "sh -c 'kill -SEGV $$'; exit $?"), { code: 139, outOfMemory: false });
    });

    test("that somebody kills is not", async () => {
      await using on = await fixture(runtime);
      const started = Promise.withResolvers<void>();
      const what = step(on.image, ["sh", "-c", "echo started; exec sleep 3000"]);
      const streams = { onOutput: () => started.resolve() };
      const running = on.executor.run(what, streams, new AbortController().signal);
      await started.promise;
      const pid = await readFile(join(memoryTree, "buildkit", what.id, "cgroup.procs"), "utf8");
      process.kill(Number(pid), "SIGKILL");
      assert.deepEqual(await running, { code: 137, complaint: "", outOfMemory: false });
    });

    test("is not told of a kill elsewhere on the machine, nor of one in a step with the same limit", async () => {
      // One image each: a step that ends takes the mount points with it that its image did not have.
      await using on = await fixture(runtime);
      await using one = await fixture(runtime);
      await using other = await fixture(runtime);
      const ends = await whenLogged(async () => {
        await using cgroup = await smallCgroup();
        const waiting = [waitingStep(one, ownKill, cgroup.name), waitingStep(other, "exit 1", cgroup.name)];
        await Promise.all(waiting.map(({ started }) => started));
        await killElsewhere();
        const killed = await endOf(on, `exec ${hungry}`, cgroup.name);
        const others = await Promise.all(waiting.map(({ goOn }) => goOn()));
        return [killed, ...others];
      });
      assert.deepEqual(ends, [
        { code: 137, outOfMemory: true },
        { code: 137, outOfMemory: false },
        { code: 1, outOfMemory: false },
      ]);
    });
  });
}

describe("memory kills that nobody can attribute", () => {
  test("are believed of a step that has died of SIGKILL, and no other", async () => {
    const program = `import { MemoryKills } from ${JSON.stringify(import.meta.resolve("./memory-kills.ts"))};
      const steps = [new MemoryKills(undefined), new MemoryKills("s1")];
      const tell = () => console.log(JSON.stringify(steps.map((step) => [137, 1, 0].map((code) => step.explain(code)))));
      tell();
      process.stdin.once("data", () => { tell(); process.exit(); });`;
    const node = [process.execPath, "--input-type=module-typescript", "--eval", program];
    const [before, after] = await whenLogged(async () => {
      const child = spawn("/usr/bin/setpriv", ["--bounding-set=-syslog", ...node], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const toldBefore = (await lines.next()).value;
      await killElsewhere();
      child.stdin.write("\n");
      return [toldBefore, (await lines.next()).value];
    });
    const [none, killed] = ["[false,false,false]", "[true,false,false]"];
    const isForAll = (await readFile("/proc/sys/kernel/dmesg_restrict", "utf8")).trim() === "0";
    assert.equal(before, `[${none},${none}]`);
    assert.equal(after, `[${killed},${isForAll ? none : killed}]`);
  });
});

/** What Linux 6 logs of a kill in `path`. */
const story = (
  path: string,
) => `<4>[40562.140266] dd invoked oom-killer: gfp_mask=0x500cc2(GFP_HIGHUSER|__GFP_ACCOUNT), order=0
<6>[40562.140699] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/p,task_memcg=${path},task=a,b/c,pid=30649,uid=0
`;
const end =
  "<3>[40562.140725] Memory cgroup out of memory: Killed process 30649 (a,b/c) total-vm:131296kB, anon-rss:64640kB\n";
const kill = (path: string) => story(path) + end;
const noise = "<6>[40563.0] usb 1-1: new device\n";

describe("the kernel's log", () => {
  test("names the cgroup of what was killed, or one beneath it, wherever that lies", () => {
    for (const path of [
      "/buildkit/s-1",
      "/kube/pod/buildkit/s-1",
      "/buildkit/s-1/inner",
      "/a.slice/buildkit-s-1.scope",
      "/a.slice:buildkit:s-1",
    ]) {
      assert.equal(isKilled("s-1", 1, noise + kill(path) + noise), true, path);
    }
    for (const path of ["/", "/buildkit/s-11", "/buildkit/xs-1", "/buildkit/s-1x/y", "/s-1y.scope"]) {
      assert.equal(isKilled("s-1", 1, noise + kill(path) + noise), false, path);
    }
  });

  test("tells of a kill whose end it has not got yet, and of one among many", () => {
    assert.equal(isKilled("s1", 1, kill("/a") + story("/b/s1")), true);
    assert.equal(isKilled("s1", 1, end + story("/a")), false);
    assert.equal(isKilled("s1", 1, story("/b/s1") + kill("/a")), false);
    assert.equal(isKilled("s1", 1, end + kill("/b/s1") + kill("/a") + end), true);
  });

  test("does not say whose a kill was that it has left out, or has forgotten", () => {
    assert.equal(isKilled("s1", 1, kill("/a") + end), undefined);
    assert.equal(isKilled("s1", 2, end + kill("/a")), undefined);
    assert.equal(isKilled("s1", 2, kill("/a")), undefined);
    assert.equal(isKilled("s1", 1, ""), undefined);
    assert.equal(isKilled("s1", 1, end + kill("/a")), false);
  });
});
