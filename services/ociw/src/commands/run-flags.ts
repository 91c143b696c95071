import { resolve } from "node:path";
import type { DeviceOptions } from "@oci-worker/llb/exec-op";
import { type Platform, parsePlatform } from "@oci-worker/oci/platform";
import { parseReference, type Reference } from "@oci-worker/oci/reference";
import type { FlagSpecs, ParsedArgs } from "../args/flags.ts";
import { parsed } from "../args/parsed.ts";
import { UsageError } from "../args/usage-error.ts";
import type { ProgressMode } from "../progress/display.ts";
import { credentialFlags, usernameOf } from "./credentials.ts";
import type { ProcessFlags } from "./image-process.ts";
import { type Lending, lendingFlags, lendingOf } from "./lending.ts";
import { progressFlag, progressOf } from "./progress-flag.ts";

export const runFlags = {
  env: { value: "NAME=VALUE", short: "e", multiple: true, help: "set an environment variable" },
  workdir: { value: "DIR", short: "w", help: "working directory of the command" },
  user: { value: "USER", short: "u", help: "user of the command: name or number, with :GROUP or without" },
  entrypoint: { value: "PROGRAM", help: "run this in place of the image's entrypoint" },
  platform: { value: "PLATFORM", help: "take the image for this platform, such as linux/arm64" },
  network: {
    value: "MODE",
    choices: ["sandbox", "host", "none"],
    help: "network of the command: sandbox, host or none (default sandbox)",
  },
  "proxy-network": {
    help: "let the command reach its network by an HTTP proxy of the daemon alone, and tell what it has asked for",
  },
  security: {
    value: "MODE",
    choices: ["sandbox", "insecure"],
    help: "what the command may do to the machine: sandbox or, if the daemon allows it, insecure",
  },
  device: {
    value: "NAME[,optional]",
    multiple: true,
    help: "give the command a device of the daemon's machine, such as vendor.com/gpu=0 (CDI)",
  },
  ...lendingFlags,
  output: { value: "DIR", short: "o", help: "write the file system that the command leaves into DIR" },
  push: { value: "NEWREF", help: "push the image with what the command has changed as NEWREF" },
  ...credentialFlags("IMAGE"),
  ...progressFlag,
} as const satisfies FlagSpecs;

/** What to run, as the command line says it. */
export interface RunRequest {
  readonly image: Reference;
  readonly process: ProcessFlags;
  readonly platform: Platform | undefined;
  readonly network: "sandbox" | "host" | "none";
  readonly proxyNetwork: boolean;
  readonly security: "sandbox" | "insecure";
  readonly devices: readonly DeviceOptions[];
  readonly lending: Lending;
  /** Absolute path. */
  readonly output: string | undefined;
  /** Name of the image that is made of what the command leaves. */
  readonly push: Reference | undefined;
  /** Given together with a password on standard input. */
  readonly username: string | undefined;
  readonly progress: ProgressMode;
}

/**
 * Makes sense of what was parsed by {@link runFlags}.
 *
 * @throws {UsageError} if it makes none.
 */
export function runRequest({ flags, words, rest }: ParsedArgs): RunRequest {
  const one = (name: keyof typeof runFlags) => flags[name]?.[0];
  const [image, unexpected] = words;
  if (image === undefined) {
    throw new UsageError('Cannot run: want an image, such as in "run busybox -- echo hello"');
  }
  if (unexpected !== undefined) {
    throw new UsageError(
      `Cannot run: ${JSON.stringify(unexpected)} follows the image, want "--" before the command`,
    );
  }
  const platform = one("platform");
  const [output, push] = [one("output"), one("push")];
  if (output !== undefined && push !== undefined) {
    throw new UsageError("Cannot use --output and --push together: want one of them");
  }
  return {
    image: parsed(parseReference, image),
    process: {
      command: rest === undefined || rest.length === 0 ? undefined : rest,
      entrypoint: one("entrypoint"),
      env: (flags["env"] ?? []).map(requireVariable),
      workdir: one("workdir"),
      user: one("user"),
    },
    platform: platform === undefined ? undefined : parsed(parsePlatform, platform),
    network: (one("network") ?? "sandbox") as RunRequest["network"],
    proxyNetwork: flags["proxy-network"] !== undefined,
    security: (one("security") ?? "sandbox") as RunRequest["security"],
    devices: (flags["device"] ?? []).map(deviceOf),
    lending: lendingOf(flags),
    output: output === undefined ? undefined : resolve(output),
    push: push === undefined ? undefined : parsed(parseReference, push),
    username: usernameOf(flags),
    progress: progressOf(flags),
  };
}

function deviceOf(text: string): DeviceOptions {
  const [, name, optional] = /^([^,\s]+)(,optional)?$/.exec(text) ?? [];
  if (name === undefined) {
    throw new UsageError(`Cannot use --device ${JSON.stringify(text)}: want NAME or NAME,optional`);
  }
  return optional === undefined ? { name } : { name, optional: true };
}

function requireVariable(variable: string): string {
  if (!/^[^=\0]+=[^\0]*$/.test(variable)) {
    throw new UsageError(`Cannot use --env ${JSON.stringify(variable)}: want NAME=VALUE`);
  }
  return variable;
}
