import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseFlags } from "../args/flags.ts";
import { UsageError } from "../args/usage-error.ts";
import { runFlags, runRequest } from "./run-flags.ts";

const request = (...args: string[]) => runRequest(parseFlags(args, runFlags));

test("a full command line is understood", () => {
  const parsed = request(
    ...[
      "-e",
      "A=1",
      "--env",
      "B=",
      "-w",
      "/w",
      "-u",
      "1:2",
      "--entrypoint",
      "e",
      "--platform",
      "linux/arm64/v8",
    ],
    ...["--security", "insecure", "--secret", "id=s,env=S", "--ssh", "default"],
    ...["--device", "v.com/c=a", "--device", "gpu,optional"],
    ...[
      "--network",
      "none",
      "--proxy-network",
      "-o",
      "/out/",
      "--username",
      "me",
      "--password-stdin",
      "--progress",
      "plain",
    ],
    ...["busybox", "--", "echo", "--env"],
  );
  assert.deepEqual(parsed, {
    image: { domain: "docker.io", repository: "library/busybox", tag: "latest" },
    process: { command: ["echo", "--env"], entrypoint: "e", env: ["A=1", "B="], workdir: "/w", user: "1:2" },
    platform: { os: "linux", architecture: "arm64" },
    network: "none",
    proxyNetwork: true,
    security: "insecure",
    devices: [{ name: "v.com/c=a" }, { name: "gpu", optional: true }],
    lending: {
      secrets: [{ id: "s", from: { variable: "S" } }],
      agents: [{ id: "default", socket: undefined }],
    },
    output: "/out",
    push: undefined,
    username: "me",
    progress: "plain",
  });
});

test("what is not said is left to the image and the daemon", () => {
  assert.deepEqual(request("busybox").process, {
    command: undefined,
    entrypoint: undefined,
    env: [],
    workdir: undefined,
    user: undefined,
  });
  assert.equal(request("busybox", "--").process.command, undefined);
});

describe("runRequest refuses", () => {
  const cases: [args: string[], text: RegExp][] = [
    [[], /want an image/],
    [["-o", "out", "--push", "a/b", "busybox"], /--output and --push together/],
    [["--push", "A", "busybox"], /Cannot use "A" as an image reference/],
    [["--", "busybox"], /want an image/],
    [["busybox", "echo"], /"echo" follows the image, want "--" before the command/],
    [["Busy"], /Cannot use "Busy" as an image reference/],
    [["busybox", "--env", "A"], /--env "A": want NAME=VALUE/],
    [["busybox", "--env", "=1"], /--env "=1": want NAME=VALUE/],
    [["busybox", "--platform", "a/b/c/d"], /as a platform/],
    [["busybox", "--network", "bridge"], /want one of sandbox, host, none/],
    [["busybox", "--device", "gpu,required"], /--device "gpu,required": want NAME or NAME,optional/],
    [["busybox", "--device", ""], /--device "": want NAME/],
    [["busybox", "--username", "me"], /--username alone: want --password-stdin/],
    [["busybox", "--password-stdin"], /--password-stdin alone: want --username/],
    [["busybox", "--password", "x"], /unknown flag --password, did you mean --password-stdin/],
  ];
  for (const [args, text] of cases) {
    test(args.join(" ") || "nothing", () => {
      assert.throws(
        () => request(...args),
        (error) => error instanceof UsageError && text.test(error.message),
      );
    });
  }
});
