import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { freePort } from "./peers/free-port.ts";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

/** A worker with `environment` that logs no more than usual, and a step in an image that it can have. */
async function startWith(environment: NodeJS.ProcessEnv, args: readonly string[] = []) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const reference = await pushTo(registry, await createImage());
  const worker = undo.use(await startWorker({ environment, args: ["--debug=false", ...args] }));
  /** Runs steps one after the other, each named for its script, and gives what they print. */
  const output = async (...scripts: readonly string[]) => {
    let tree = image(reference, { name: "the image" });
    for (const script of scripts) {
      tree = run({ root: tree, args: ["sh", "-c", script], env: ["PATH=/bin"], name: script }).root;
    }
    const build = worker.client.solve(definitionOf(tree));
    let text = "";
    for await (const { logs } of build.status) {
      text += logs.map(({ data }) => Buffer.from(data).toString()).join("");
    }
    await build.result;
    return text;
  };
  const owned = undo.move();
  return { worker, output, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Ends the worker, so that all of its log is there, and gives the lines with the fields that are asked for. */
async function linesWith(
  { process }: WorkerPeer,
  ...fields: readonly string[]
): Promise<Record<string, unknown>[]> {
  await process.stop();
  return process.log
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => fields.every((field) => Object.hasOwn(line, field)));
}

describe("a worker", () => {
  test("passes on as much of a step's output as it is told to", async () => {
    const script = "echo 0123456789";
    {
      await using on = await startWith({ BUILDKIT_STEP_LOG_MAX_SIZE: "8" });
      assert.match(await on.output(script), /^01234567\n\[output clipped, log limit .* reached\]\n$/);
    }
    await using on = await startWith({
      BUILDKIT_STEP_LOG_MAX_SIZE: "-1",
      BUILDKIT_STEP_LOG_MAX_SPEED: "1024",
    });
    const clipped = await on.output("yes | busybox head -c 1000000");
    assert.match(clipped, /^[y\n]+\n\[output clipped, log limit 1KiB\/s reached\]\n$/);
  });

  test("logs what steps print if the environment says so", async () => {
    const script = "echo out; echo err >&2";
    {
      await using on = await startWith({});
      await on.output(script);
      assert.deepEqual(await linesWith(on.worker, "line"), []);
    }
    await using on = await startWith({ BUILDKIT_DEBUG_EXEC_OUTPUT: "1" });
    await on.output(script);
    assert.deepEqual(
      (await linesWith(on.worker, "line"))
        .map(({ step, stream, line }) => `${step} ${stream} ${line}`)
        .toSorted(),
      [`${script} stderr err`, `${script} stdout out`],
    );
  });

  test("keeps what cache keys are made of if it is told to, for operators to ask", async () => {
    const port = await freePort();
    const args = ["--debugaddr", `127.0.0.1:${port}`];
    const ask = async (path: string, accept = "*/*") => {
      const response = await fetch(`http://127.0.0.1:${port}/debug/cache/${path}`, { headers: { accept } });
      return { status: response.status, text: await response.text() };
    };
    {
      await using _on = await startWith({}, args);
      const { status, text } = await ask("all");
      assert.equal(status, 409);
      assert.match(text, /want the worker started with --save-cache-debug/);
    }
    await using on = await startWith({}, [...args, "--save-cache-debug"]);
    await on.output("true first", "true second");
    const all = JSON.parse((await ask("all", "application/json")).text) as Record<string, string>[];
    assert.deepEqual(
      all.map(({ description }) => description),
      ["true second", "true first", "the image"],
    );
    const [second, first, base] = all;
    assert(second?.["text"]?.includes(`${first?.["digest"]}@0`), "it is made of the key before it");
    assert(first?.["text"]?.includes('["sh","-c","true first"]'), "it is made of what is run");
    const { text } = await ask(`lookup?digest=${first?.["digest"]}`);
    assert.equal(
      text,
      [first, base]
        .map((each) => `${each?.["digest"]} (${each?.["description"]}):\n  ${each?.["text"]}\n`)
        .join("\n"),
    );
    assert.equal((await ask("lookup?digest=sha256:0")).status, 404);
    assert.equal((await ask("lookup")).status, 400);
  });

  test("logs what it decides of vertices, and why, if the environment says so", async () => {
    {
      await using on = await startWith({ BUILDKIT_SCHEDULER_DEBUG: "1" });
      await on.output("true");
      await on.output("true");
      const lines = await linesWith(on.worker, "step");
      const decided = (name: string) => lines.filter(({ step }) => step === name).map(({ msg }) => msg);
      const made = ["vertex has a cache key", "result is not in the cache", "work begins", "work has ended"];
      const ends = "vertex is not wanted any more";
      const found = ["vertex has a cache key", "result is in the cache", ends];
      assert.deepEqual(decided("true"), [...made, ends, ...found]);
      assert.deepEqual(decided("the image"), [...made, ends, "vertex has a cache key", ends]);
      const keys = lines.filter(({ step, key }) => step === "true" && key !== undefined);
      assert.equal(new Set(keys.map(({ key }) => key)).size, 1, "what was found is what was made");
    }
    await using on = await startWith({ BUILDKIT_SCHEDULER_DEBUG_STEPS: "first^" });
    await on.output("true first", "true second", "true third");
    const told = new Set((await linesWith(on.worker, "step")).map(({ step }) => step));
    assert.deepEqual([...told].toSorted(), ["true first", "true second"]);
  });
});
