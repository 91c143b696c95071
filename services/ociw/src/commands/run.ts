import type { BuildKitClient } from "@oci-worker/client";
import type { Build, BuildOptions } from "@oci-worker/client/build";
import { BuildError } from "@oci-worker/client/build-error";
import type { BuildFunction } from "@oci-worker/client/gateway";
import { definitionOf, image, run as runIn } from "@oci-worker/llb/build";
import type { ImageConfig } from "@oci-worker/oci/image-config";
import { formatReference } from "@oci-worker/oci/reference";
import { failureLine } from "../output/failure.ts";
import { chosenMode, type Display, openDisplay } from "../progress/display.ts";
import type { Terminal } from "../terminal.ts";
import type { Command } from "./command.ts";
import { credentialsOf, fetchesTokens } from "./credentials.ts";
import { explained } from "./explain-pull.ts";
import { imageProcess, type ProcessConfig, unknownConfig } from "./image-process.ts";
import { brokenPipeExitCode, listenForInterruption } from "./interruption.ts";
import { type Lent, lend } from "./lending.ts";
import { requireTerminal } from "./progress-flag.ts";
import { type RunRequest, runFlags, runRequest } from "./run-flags.ts";

/** `ociw run` */
export const run: Command = {
  synopsis: "run [flags] IMAGE [-- COMMAND ARGUMENTS...]",
  summary: "Runs a command in an image, the image's own unless one is given.",
  details: [
    "What the command writes to its standard output and error goes to ours, byte for byte; progress goes to\nstandard error. The exit code is that of the command, 1 if it could not be run, 130 if it was interrupted.",
    "What the command leaves can be had as files (--output), or as an image with the config of IMAGE (--push).",
    "The command is run each time; what was pulled before is not pulled again.",
    "Secrets are files in memory of the command's container, and gone with it; keys stay with their agent.",
    "Credentials come from docker's configuration, and from --username and --password-stdin for the registry of\nIMAGE alone.",
  ],
  flags: runFlags,

  async run({ connect, terminal, ...args }) {
    const request = runRequest(args);
    requireTerminal(request.progress, terminal);
    const credentials = await credentialsOf(request.username, request.image, terminal);
    const lent = await lend(request.lending, terminal.env);
    using interruption = listenForInterruption(terminal);
    await using client = await connect();
    const options = { credentials, fetchesTokens: fetchesTokens(terminal.env), signal: interruption.signal };
    const running = start(client, request, lent, options);
    const failure = await show(running, request, terminal);
    if (failure === undefined) {
      await tellPushed(running, request, terminal);
      return 0;
    }
    const exitCode = interruption.exitCode();
    if (exitCode === undefined && failure instanceof BuildError && failure.exitCode !== undefined) {
      return failure.exitCode;
    }
    if (exitCode === brokenPipeExitCode) {
      // Whoever read what we write has seen enough.
      return exitCode;
    }
    terminal.stderr.write(failureLine("ociw", await explained(failure, request, credentials)));
    return exitCode ?? 1;
  },
};

/** A build that runs a command. */
interface Running {
  readonly build: Build;
  /** Identifies the step that is the command; undefined until it is known. */
  command(): string | undefined;
}

function start(
  client: BuildKitClient,
  request: RunRequest,
  lent: Lent,
  more: Pick<BuildOptions, "credentials" | "fetchesTokens" | "signal">,
): Running {
  let command: string | undefined;
  const { image: reference, platform, network, security, devices, push } = request;
  const build: BuildFunction = async (gateway) => {
    const choice = platform === undefined ? {} : { platform };
    const resolved = gateway.capabilities.has("resolveimage")
      ? await gateway.resolveImage(reference, choice)
      : { reference, config: unknownConfig };
    const process = imageProcess(resolved.config, request.process);
    const step = runIn({
      root: image(resolved.reference, choice),
      ...process,
      env: [...process.env, ...lent.env],
      mounts: lent.mounts,
      network,
      security,
      devices,
      ignoreCache: true,
    });
    command = step.digest;
    const solved = await gateway.solve(definitionOf(step.root));
    return push === undefined ? solved : { ...solved, metadata: configOf(resolved.config) };
  };
  const options = {
    ...more,
    sessionName: "ociw",
    ...lent.options,
    entitlements: [
      ...(network === "host" ? ["network.host"] : []),
      ...(security === "insecure" ? ["security.insecure"] : []),
      ...devices.map(({ name }) => `device=${name}`),
    ],
    proxyNetwork: request.proxyNetwork,
    ...outputOf(request),
  };
  return { build: client.build(build, options), command: () => command };
}

/** What the image is like that is made of the result: like the one that it began with. */
function configOf(config: ProcessConfig | ImageConfig): Readonly<Record<string, Uint8Array>> {
  return "document" in config
    ? { "containerimage.config": Buffer.from(JSON.stringify(config.document)) }
    : {};
}

function outputOf({ output, push }: RunRequest): Pick<BuildOptions, "output"> {
  if (output !== undefined) {
    return { output: { type: "local", directory: output } };
  }
  return push === undefined
    ? {}
    : {
        output: {
          type: "exporter",
          name: "image",
          attributes: { name: formatReference(push), push: "true", "oci-mediatypes": "true" },
        },
      };
}

/** What has been pushed is told by the name that stays. */
async function tellPushed({ build }: Running, { push }: RunRequest, terminal: Terminal): Promise<void> {
  if (push !== undefined) {
    const { exporterResponse } = await build.result;
    terminal.stderr.write(`pushed ${formatReference(push)}@${exporterResponse["containerimage.digest"]}\n`);
  }
}

/** Shows how it goes. @returns what it failed with, or undefined. */
async function show(running: Running, { image: reference, progress }: RunRequest, terminal: Terminal) {
  const title = `running ${formatReference(reference)}`;
  using display = openDisplay(chosenMode(progress, terminal), title, terminal);
  // The status may break off with the daemon; the result then tells it, too.
  await follow(running, display, terminal).catch(() => undefined);
  const failure = await running.build.result.then(
    () => undefined,
    (error: unknown) => error,
  );
  display.end();
  return failure;
}

async function follow({ build, command }: Running, display: Display, terminal: Terminal): Promise<void> {
  for await (const update of build.status) {
    display.update(update);
    for (const { vertex, stream, data } of update.logs) {
      if (vertex === command()) {
        await display.passThrough(terminal[stream], data);
      }
    }
  }
}
