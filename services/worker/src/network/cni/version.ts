import { FailedPreconditionError, UnavailableError } from "@oci-worker/errdefs";
import type { NetworkConfig } from "./config.ts";
import type { CniPlugins } from "./plugin.ts";

/** Every version of the protocol that we speak, the newest first. */
const knownVersions = ["1.1.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0", "0.2.0", "0.1.0"];

/** Versions before CHECK and prevResult in DEL came in, with 0.4.0. */
const withoutCheck = ["0.1.0", "0.2.0", "0.3.0", "0.3.1"];

/** Whether the protocol has CHECK. */
export function hasCheck(cniVersion: string): boolean {
  return !withoutCheck.includes(cniVersion);
}

/**
 * The newest version that the configuration allows and that every one of its plugins speaks.
 *
 * @throws {FailedPreconditionError} if there is none, or a plugin is missing.
 */
export async function chooseVersion(
  { name, cniVersions, plugins: configs }: NetworkConfig,
  plugins: CniPlugins,
): Promise<string> {
  const types = [...new Set(configs.map(({ type }) => type))];
  const spoken = await Promise.all(types.map((type) => versionsOf(type, plugins)));
  const chosen = knownVersions.find(
    (version) => cniVersions.includes(version) && spoken.every((versions) => versions.includes(version)),
  );
  if (chosen === undefined) {
    const speakers = types.map((type, index) => `${type} speaks ${spoken[index]?.join(", ")}`);
    throw new FailedPreconditionError(
      `Cannot use CNI network ${JSON.stringify(name)}: it wants version ${cniVersions.join(" or ")}, ${speakers.join("; ")}`,
    );
  }
  return chosen;
}

/** What the plugin answers to VERSION. Those of 0.1.0 do not know the question. */
async function versionsOf(type: string, plugins: CniPlugins): Promise<readonly string[]> {
  let answer: unknown;
  try {
    // The newest form of the question; each plugin answers it whatever else it speaks.
    answer = JSON.parse(await plugins.call(type, "VERSION", { cniVersion: knownVersions[0] }, undefined));
  } catch (error) {
    if (error instanceof UnavailableError && error.message.includes("unknown CNI_COMMAND: VERSION")) {
      return ["0.1.0"];
    }
    if (error instanceof SyntaxError) {
      throw notVersions(type, error);
    }
    throw error;
  }
  if (typeof answer === "object" && answer !== null && "supportedVersions" in answer) {
    const { supportedVersions } = answer;
    if (Array.isArray(supportedVersions) && supportedVersions.every((each) => typeof each === "string")) {
      return supportedVersions;
    }
  }
  throw notVersions(type, undefined);
}

function notVersions(type: string, cause: unknown): FailedPreconditionError {
  return new FailedPreconditionError(
    `plugin type=${JSON.stringify(type)} failed (version): it does not say which versions it speaks`,
    { cause },
  );
}
