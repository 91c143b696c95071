import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ExecMessageSchema } from "@oci-worker/api/buildkit/llb-bridge";
import { NotFoundError } from "@oci-worker/errdefs";
import type { PreparedProcess } from "../containers/build-containers.ts";
import { execProcess } from "./exec-process.ts";
import type { ExecAnswer } from "./streamed-process.ts";

type Input = NonNullable<MessageInitShape<typeof ExecMessageSchema>["Input"]>;

const nobodyLeaves = new AbortController().signal;

function message(ProcessID: string, Input?: Input) {
  return create(ExecMessageSchema, { ProcessID, ...(Input && { Input }) });
}

const init = (Fds: number[] = [], more: object = {}): Input => ({
  case: "Init",
  value: { ContainerID: "box", Meta: { args: ["true"] }, Fds, ...more },
});
const file = (Fd: number, text: string, EOF = false): Input => ({
  case: "File",
  value: { Fd, Data: Buffer.from(text), EOF },
});

/** A process that echoes its input, as soon as it has been told that it may run. */
function echoing(isFurther: boolean, mayRun = Promise.resolve()): PreparedProcess {
  return {
    isFurther,
    run: async ({ input, onStart, onOutput }) => {
      await mayRun;
      onStart?.({ kill: () => undefined, resize: () => undefined });
      for await (const chunk of input ?? []) {
        await onOutput(1, Buffer.from(chunk));
      }
      return { code: 0, failure: undefined };
    },
  };
}

async function* sent(...messages: ReturnType<typeof message>[]) {
  yield* messages;
}

/** What is answered, in short. */
async function answers(stream: AsyncIterable<ExecAnswer>): Promise<string[]> {
  const all: string[] = [];
  for await (const { ProcessID, Input } of stream) {
    const data =
      Input?.case === "File" ? ` ${Input.value.EOF === true ? "end" : text(Input.value.Data)}` : "";
    all.push(`${ProcessID} ${Input?.case}${data}`);
  }
  return all;
}

function text(data: Uint8Array | undefined): string {
  return Buffer.from(data ?? []).toString();
}

describe("a stream of processes", () => {
  test("tells of a process from its start to its end, and goes on to that when the client has said all", async () => {
    const stream = execProcess(
      sent(message("a", init([0, 1])), message("a", file(0, "hello")), message("a", file(0, "", true))),
      () => Promise.resolve(echoing(false)),
      nobodyLeaves,
    );
    assert.deepEqual(await answers(stream), ["a Started", "a File hello", "a File end", "a Exit", "a Done"]);
  });

  test("tells at once that a further process has started, whoever else's output nobody takes", async () => {
    const mayRun = Promise.withResolvers<void>();
    const stream = execProcess(
      sent(message("a", init([1]))),
      () => Promise.resolve(echoing(true, mayRun.promise)),
      nobodyLeaves,
    );
    const first = await stream.next();
    assert.equal(first.value?.Input?.case, "Started");
    mayRun.resolve();
    assert.deepEqual(await answers(stream), ["a File end", "a Exit", "a Done"]);
  });

  test("drops what comes for a process that has ended", async () => {
    const ended = Promise.withResolvers<void>();
    async function* late() {
      yield message("a", init([0, 1]));
      yield message("a", file(0, "", true));
      await ended.promise;
      yield message("a", file(0, "late"));
      yield message("a", { case: "Resize", value: { Rows: 1, Cols: 1 } });
      yield message("a", { case: "Signal", value: { Name: "TERM" } });
    }
    const stream = execProcess(late(), () => Promise.resolve(echoing(false)), nobodyLeaves);
    const seen: string[] = [];
    for await (const { Input } of stream) {
      seen.push(String(Input?.case));
      if (Input?.case === "Done") {
        ended.resolve();
      }
    }
    assert.deepEqual(seen, ["Started", "File", "Exit", "Done"]);
  });

  test("kills its processes when nobody listens any more", async () => {
    const gone = new AbortController();
    const killed = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const run: PreparedProcess["run"] = async ({ onStart }, signal) => {
      onStart?.({ kill: () => undefined, resize: () => undefined });
      started.resolve();
      signal.addEventListener("abort", () => killed.resolve());
      await killed.promise;
      return { code: 137, failure: undefined };
    };
    const never = Promise.withResolvers<never>();
    async function* requests() {
      yield message("a", init());
      await never.promise;
    }
    const prepare = () => Promise.resolve({ isFurther: false, run });
    const reading = answers(execProcess(requests(), prepare, gone.signal));
    await started.promise;
    gone.abort();
    await killed.promise;
    await reading;
  });

  const refused: [name: string, RegExp, ...ReturnType<typeof message>[]][] = [
    ["a process without a name", /^ProcessID required$/, message("", init())],
    ["a second Init", /^Process a already exists$/, message("a", init([0])), message("a", init([0]))],
    ["input for nobody", /^IO for process "a" not found$/, message("a", file(0, "x"))],
    [
      "input that is not connected",
      /^fd 0 unavailable to write$/,
      message("a", init([1])),
      message("a", file(0, "x")),
    ],
    [
      "input for its output",
      /^fd 1 unavailable to write$/,
      message("a", init([0, 1])),
      message("a", file(1, "x")),
    ],
    [
      "input behind the end of it",
      /^fd 0 unavailable to write$/,
      message("a", init([0])),
      message("a", file(0, "x", true)),
      message("a", file(0, "y")),
    ],
    [
      "a descriptor that nothing is at",
      /^Cannot connect fd 3 of a process: want 0, 1 or 2$/,
      message("a", init([3])),
    ],
    [
      "a process without arguments",
      /has no arguments, want at least the program$/,
      message("a", init([], { Meta: {} })),
    ],
    [
      "a signal that there is none of",
      /^Unknown signal NOPE, want/,
      message("a", init([0])),
      message("a", { case: "Signal", value: { Name: "NOPE" } }),
    ],
    [
      "a terminal without bounds",
      /^Cannot resize a terminal to 70000 rows/,
      message("a", init([0])),
      message("a", { case: "Resize", value: { Rows: 70_000, Cols: 1 } }),
    ],
    ["an answer", /^Cannot do Done with process "a": want Init/, message("a", { case: "Done", value: {} })],
    ["nothing", /^Cannot do nothing with process "a": want Init/, message("a")],
  ];
  for (const [name, reason, ...messages] of refused) {
    test(`refuses ${name}`, async () => {
      // It does not end by itself, so that what comes for it is not too late.
      const never = Promise.withResolvers<void>();
      const prepare = () => Promise.resolve(echoing(false, never.promise));
      await assert.rejects(answers(execProcess(sent(...messages), prepare, nobodyLeaves)), (error) => {
        assert(error instanceof Error);
        assert.match(error.message, reason);
        return true;
      });
    });
  }

  test("ends with what a container is refused with", async () => {
    const prepare = () => Promise.reject(new NotFoundError("no such container"));
    await assert.rejects(
      answers(execProcess(sent(message("a", init())), prepare, nobodyLeaves)),
      NotFoundError,
    );
  });
});
