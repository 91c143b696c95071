import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { ImageConfig } from "@oci-worker/oci/image-config";

/** What the command line says about the process, in place of the image. */
export interface ProcessFlags {
  /** Words after `--`, or undefined if there are none. */
  readonly command: readonly string[] | undefined;
  readonly entrypoint: string | undefined;
  /** `NAME=value` each. */
  readonly env: readonly string[];
  readonly workdir: string | undefined;
  readonly user: string | undefined;
}

/** A process to run in an image. */
export interface ImageProcess {
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: string;
}

/** The parts of an image's config that say how its process starts. */
export type ProcessConfig = Pick<ImageConfig, "entrypoint" | "cmd" | "env" | "workingDir" | "user">;

/** What an image says whose config is not known. */
export const unknownConfig: ProcessConfig = { entrypoint: [], cmd: [], env: [], workingDir: "", user: "" };

/**
 * The process that `docker run` would start: the image's, in as far as the command line says nothing else. Another
 * entrypoint makes the image's command void, because that was meant for the image's own.
 *
 * @throws {InvalidArgumentError} if neither says which program to run.
 */
export function imageProcess(config: ProcessConfig, flags: ProcessFlags): ImageProcess {
  const entrypoint = flags.entrypoint === undefined ? config.entrypoint : entrypointOf(flags.entrypoint);
  const defaultCommand = flags.entrypoint === undefined ? config.cmd : [];
  const args = [...entrypoint, ...(flags.command ?? defaultCommand)];
  if (args.length === 0) {
    throw new InvalidArgumentError('Cannot run image: it has no command of its own, want one after "--"');
  }
  return {
    args,
    env: overridden(config.env, flags.env),
    cwd: flags.workdir ?? (config.workingDir || "/"),
    user: flags.user ?? config.user,
  };
}

/** An empty entrypoint takes the image's away. */
function entrypointOf(program: string): string[] {
  return program === "" ? [] : [program];
}

/** `env` with the variables of `changes` in their old places, new ones at the end. */
function overridden(env: readonly string[], changes: readonly string[]): string[] {
  const variables = new Map([...env, ...changes].map((variable) => [nameOf(variable), variable]));
  return [...variables.values()];
}

function nameOf(variable: string): string {
  const equals = variable.indexOf("=");
  return equals < 0 ? variable : variable.slice(0, equals);
}
