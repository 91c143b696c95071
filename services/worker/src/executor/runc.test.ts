import assert from "node:assert/strict";
import { chmod, mkdir, mkdtempDisposable, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { UnavailableError } from "@oci-worker/errdefs";
import { Runc } from "./runc.ts";
import { fixture, run, step } from "./sample-image.ts";

/** A runtime that does `script` in place of `run`, and is the real one otherwise. */
async function standIn(script: string, startTimeoutMs: number) {
  const directory = await mkdtempDisposable(join(tmpdir(), "runtime-"));
  const binary = join(directory.path, "runtime");
  await writeFile(binary, `#!/bin/sh\ncase "$*" in *" run "*) ${script};; esac\nexec runc "$@"\n`);
  await chmod(binary, 0o755);
  const bundle = join(directory.path, "bundle");
  await mkdir(bundle);
  const runc = new Runc({ binary, stateDirectory: join(directory.path, "state"), startTimeoutMs });
  return {
    runc,
    bundle,
    path: directory.path,
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

const unaborted = new AbortController().signal;
const silent = { onOutput: () => undefined };

describe("a runtime", () => {
  test("that does not start the step is killed with all that it has started", async () => {
    await using on = await standIn("sleep 3000 & wait", 200);
    const failure = await on.runc.run("x", on.bundle, silent, unaborted).catch((error) => error);
    assert(failure instanceof UnavailableError);
    assert.match(failure.message, /^Cannot run the step: .*\/runtime has not started it in 0\.2 s$/);
    // The child had the step's output; that the promise has settled says that it is gone.
  });

  test("that hangs when the step is to be killed is killed itself, and the step with it", async () => {
    await using outer = await fixture();
    const binary = join(outer.path, "runtime");
    const started = Promise.withResolvers<void>();
    // Its kill never answers: after its own limit the runtime that runs the step is taken for hanging, too.
    await writeFile(binary, '#!/bin/sh\ncase "$*" in *" kill "*) exec sleep 3000;; esac\nexec runc "$@"\n');
    await chmod(binary, 0o755);
    await using on = await fixture(binary);
    const controller = new AbortController();
    const what = step(on.image, ["sh", "-c", "echo started; sleep 3000"]);
    const running = on.executor.run(what, { onOutput: () => started.resolve() }, controller.signal);
    await started.promise;
    controller.abort();
    await assert.rejects(running, /aborted/);
  });

  test("that is killed by somebody else takes its step with it", async () => {
    await using outer = await fixture();
    const binary = join(outer.path, "runtime");
    const pidFile = join(outer.path, "pid");
    await writeFile(
      binary,
      `#!/bin/sh\ncase "$*" in *" run "*) echo $$ > ${pidFile};; esac\nexec runc "$@"\n`,
    );
    await chmod(binary, 0o755);
    await using on = await fixture(binary);
    const started = Promise.withResolvers<void>();
    const what = step(on.image, ["sh", "-c", "echo started; sleep 3000"]);
    const running = on.executor.run(what, { onOutput: () => started.resolve() }, unaborted);
    await started.promise;
    process.kill(Number(await readFile(pidFile, "utf8")), "SIGKILL");
    await assert.rejects(running, /Cannot tell how the step ended: .* was ended by SIGKILL/);
  });

  test("that hangs or fails when the containers of an earlier run are asked for is told, in its own words", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "runtime-"));
    const binary = join(directory.path, "runtime");
    const runc = new Runc({ binary, stateDirectory: join(directory.path, "state"), commandTimeoutMs: 200 });
    const cases = [
      ["trap '' TERM; while :; do sleep 1; done", /runtime has not answered in 0\.2 s$/],
      ["echo 'no such' >&2; echo cgroup >&2; exit 4", /runtime has failed: no such; cgroup$/],
      ["exit 4", /runtime has failed: Command failed: .* list --quiet$/],
    ] as const;
    for (const [script, message] of cases) {
      await writeFile(binary, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      await assert.rejects(runc.list(), (error) => {
        assert(error instanceof UnavailableError);
        assert.match(error.message, /^Cannot list the containers of an earlier run: /);
        assert.match(error.message, message);
        return true;
      });
    }
    // It fails to delete, and still has the container.
    await writeFile(
      binary,
      '#!/bin/sh\ncase "$*" in *list*) echo x; exit 0;; esac\necho stuck >&2; exit 1\n',
    );
    await assert.rejects(
      runc.delete("x"),
      /^UnavailableError: Cannot remove container x: .* has failed: stuck$/,
    );
    await writeFile(binary, '#!/bin/sh\ncase "$*" in *list*) exit 0;; esac\nexit 1\n');
    await runc.delete("x");
  });

  test("that is not there, or ends without a word, is told", async () => {
    await using on = await standIn("exit 7", 60_000);
    assert.deepEqual(await on.runc.run("x", on.bundle, silent, unaborted), {
      code: 7,
      complaint: "the runtime has not started it",
    });
    await rm(join(on.path, "runtime"));
    await assert.rejects(on.runc.run("x", on.bundle, silent, unaborted), (error) => {
      assert(error instanceof UnavailableError);
      assert.match(error.message, /^Cannot start .*\/runtime: spawn .* ENOENT/);
      return true;
    });
  });

  test("says what it could not do with a step", async () => {
    await using on = await fixture();
    const { code, complaint } = await run(on.executor, step(on.image, ["/etc/passwd"]));
    assert.notEqual(code, 0);
    assert.match(complaint, /permission denied/);
  });
});
