import { create } from "@bufbuild/protobuf";
import { type Client, ConnectError } from "@connectrpc/connect";
import type { Definition } from "@oci-worker/api/buildkit/llb";
import type { LLBBridge, Result } from "@oci-worker/api/buildkit/llb-bridge";
import { type Status, StatusSchema } from "@oci-worker/api/google/status";
import type { Stat } from "@oci-worker/api/session/fsutil";
import { UnimplementedError } from "@oci-worker/errdefs";
import { statusOf } from "@oci-worker/errdefs/connect";
import { type MountOptions, mountOf, networks } from "@oci-worker/llb/exec-op";
import { platformToProto } from "@oci-worker/llb/platform";
import { type Digest, parseDigest } from "@oci-worker/oci/digest";
import { type ImageConfig, parseImageConfig } from "@oci-worker/oci/image-config";
import type { Platform } from "@oci-worker/oci/platform";
import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";
import { newID } from "../new-id.ts";
import { BuildError, buildErrorOf } from "./build-error.ts";
import { Capabilities } from "./capabilities.ts";
import { type Container, containerOf } from "./container.ts";
import { statusOfError } from "./error-details.ts";

/** Says which build a call of the bridge belongs to. */
const buildIDHeader = "buildkit-controlapi-buildid";

/** How long a daemon may take to say what it can do, in milliseconds. */
const pingTimeoutMs = 15_000;

/** A file system tree that the daemon has or can make. */
export interface BuildRef {
  /** Empty for the empty tree. */
  readonly id: string;
}

/** What a build function makes the result of its build. */
export interface ReturnedRef extends BuildRef {
  /** What exporters are told of it, by BuildKit's keys: under `containerimage.config` the config of an image made of it. */
  readonly metadata?: Readonly<Record<string, Uint8Array>>;
}

export interface ResolveImageOptions {
  /** Which image of an index; undefined is the platform of the worker. */
  readonly platform?: Platform;
  readonly resolveMode?: "default" | "pull" | "local";
  /** Name of the step in the build's status. */
  readonly name?: string;
}

export interface ResolvedImage {
  /** The same image, its digest fixed, so that what is built from it has the config below. */
  readonly reference: Reference;
  readonly digest: Digest;
  readonly config: ImageConfig;
}

export interface SolveOptions {
  /** Make the result now and fail if that fails, in place of when it is first used. */
  readonly evaluate?: boolean;
}

export interface ContainerOptions {
  readonly root: BuildRef;
  readonly readonlyRoot?: boolean;
  readonly mounts?: readonly MountOptions<BuildRef>[];
  /** `host` needs the entitlement `network.host`. */
  readonly network?: "sandbox" | "host" | "none";
  readonly hostname?: string;
  readonly extraHosts?: readonly { readonly host: string; readonly ip: string }[];
  /** What its programs are for; the worker's own platform unless given. */
  readonly platform?: Platform;
}

/** How a build goes step by step: ask, solve, look, solve again. Usable until the build function has returned. */
export interface Gateway {
  /** What the daemon can do for a build function. */
  readonly capabilities: Capabilities;
  /** Which operations the daemon can do. */
  readonly llbCapabilities: Capabilities;

  /**
   * Reads the config of an image.
   *
   * @throws {BuildError} if the image cannot be had.
   * @throws {InvalidArgumentError} if its config is damaged.
   */
  resolveImage(reference: Reference, options?: ResolveImageOptions): Promise<ResolvedImage>;

  /**
   * Solves `definition`. What comes back may still have to be made.
   *
   * @throws {UnimplementedError} if the daemon cannot do an operation of it.
   * @throws {BuildError} if it fails.
   */
  solve(definition: Definition, options?: SolveOptions): Promise<BuildRef>;

  /**
   * The content of a file of a result.
   *
   * @param range which part of it, in bytes; 16 MiB at most come at once.
   * @throws {BuildError} if there is no such file.
   */
  readFile(ref: BuildRef, path: string, range?: { offset: number; length: number }): Promise<Uint8Array>;

  /**
   * What is in a directory of a result, and nothing deeper.
   *
   * @param pattern of names, such as `*.txt`; all unless given.
   */
  readDirectory(ref: BuildRef, path: string, pattern?: string): Promise<Stat[]>;

  /** What is at a path of a result, by its last name. */
  stat(ref: BuildRef, path: string): Promise<Stat | undefined>;

  /**
   * Makes a container of results, to run processes in. What they write is lost. It ends with the build, if not before.
   *
   * @throws {UnimplementedError} if the daemon has no containers.
   * @throws {BuildError} if it fails, such as for a result that cannot be made.
   */
  newContainer(options: ContainerOptions): Promise<Container>;
}

/** Decides what is built; returns the result, or undefined for none. */
export type BuildFunction = (gateway: Gateway, signal: AbortSignal) => Promise<ReturnedRef | undefined>;

/** A gateway and how its build ends: one of the two, once. */
export interface OpenGateway extends Gateway {
  /** Makes `ref` the result of the build. */
  finish(ref: ReturnedRef | undefined): Promise<void>;
  /** Makes `thrown` the failure of the build. @returns whether the daemon knows of it now. */
  fail(thrown: unknown): Promise<boolean>;
}

/**
 * Opens the gateway of the build `buildID`.
 *
 * @throws {BuildError} if the daemon does not have the build or any gateway.
 */
export async function openGateway(
  bridge: Client<typeof LLBBridge>,
  buildID: string,
  signal: AbortSignal,
): Promise<OpenGateway> {
  const call = { headers: [[buildIDHeader, buildID]] as [string, string][], signal };
  const pong = await bridge.ping({}, { ...call, timeoutMs: pingTimeoutMs }).catch(fail);
  const capabilities = Capabilities.ofGateway(pong.FrontendAPICaps);
  const llbCapabilities = Capabilities.ofLlb(pong.LLBCaps);
  return {
    capabilities,
    llbCapabilities,

    async resolveImage(reference, { platform, resolveMode = "default", name } = {}) {
      capabilities.require("resolveimage");
      const text = formatReference(reference);
      const request = {
        Ref: text,
        ResolveMode: resolveMode,
        LogName: name ?? `resolve image config for ${text}`,
        ...(platform && { Platform: platformToProto(platform) }),
      };
      const answer = await bridge.resolveImageConfig(request, call).catch(fail);
      const { Digest: digest, Config: config } = answer;
      const pinned = reference.digest === undefined ? parseReference(`${text}@${digest}`) : reference;
      return { reference: pinned, digest: parseDigest(digest), config: parseImageConfig(config) };
    },

    async solve(definition, { evaluate = false } = {}) {
      llbCapabilities.requireAllOf(definition);
      const request = {
        Definition: definition,
        Evaluate: evaluate,
        allowResultReturn: true,
        allowResultArrayRef: true,
      };
      const { result } = await bridge.solve(request, call).catch(fail);
      return singleRef(result);
    },

    async readFile({ id: Ref }, FilePath, range) {
      const Range = range && { Offset: BigInt(range.offset), Length: BigInt(range.length) };
      const { Data } = await bridge.readFile({ Ref, FilePath, ...(Range && { Range }) }, call).catch(fail);
      return Data;
    },

    async readDirectory({ id: Ref }, DirPath, IncludePattern = "") {
      capabilities.require("readdir");
      const { entries } = await bridge.readDir({ Ref, DirPath, IncludePattern }, call).catch(fail);
      return entries;
    },

    async stat({ id: Ref }, Path) {
      capabilities.require("statfile");
      const { stat } = await bridge.statFile({ Ref, Path }, call).catch(fail);
      return stat;
    },

    async newContainer({ root, readonlyRoot = false, mounts = [], network = "sandbox", ...more }) {
      capabilities.require("gateway.exec");
      const { hostname = "", extraHosts = [], platform } = more;
      const id = newID();
      const rootMount = { type: "bind", dest: "/", from: root, readonly: readonlyRoot } as const;
      const request = {
        ContainerID: id,
        Mounts: [rootMount, ...mounts].map(containerMount),
        Network: networks[network],
        hostname,
        extraHosts: extraHosts.map(({ host, ip }) => ({ Host: host, IP: ip })),
        ...(platform && { platform: platformToProto(platform) }),
      };
      await bridge.newContainer(request, call).catch(fail);
      return containerOf(bridge, id, call);
    },

    async finish(ref) {
      capabilities.require("proto.refarray");
      const value = { id: ref?.id ?? "" };
      const result = { result: { case: "ref", value }, metadata: { ...ref?.metadata } } as const;
      await bridge.return({ result }, call).catch(fail);
    },

    async fail(thrown) {
      return await bridge.return({ error: errorStatus(thrown) }, call).then(
        () => true,
        () => false,
      );
    },
  };
}

function containerMount(mount: MountOptions<BuildRef>) {
  const resultID = "from" in mount ? (mount.from?.id ?? "") : "";
  return { ...mountOf(mount), input: -1n, resultID };
}

function singleRef(result: Result | undefined): BuildRef {
  const tree = result?.result ?? { case: undefined };
  switch (tree.case) {
    case "ref":
      return { id: tree.value.id };
    case "refDeprecated":
      return { id: tree.value };
    case undefined:
      return { id: "" };
    case "refs":
    case "refsDeprecated":
      throw new UnimplementedError("Cannot use the result of solve: it has several trees, want one");
  }
}

function fail(thrown: unknown): never {
  throw buildErrorOf(thrown);
}

/** `thrown` for the daemon, with the details that it gave us itself. */
function errorStatus(thrown: unknown): Status {
  const { code, message } = statusOf(thrown);
  const origin = thrown instanceof BuildError ? thrown.cause : thrown;
  const details = origin instanceof ConnectError ? (statusOfError(origin)?.details ?? []) : [];
  return create(StatusSchema, { code, message, details });
}
