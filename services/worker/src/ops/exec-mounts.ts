import { posix } from "node:path";
import { CacheSharingOpt, MountType, type Mount as OpMount } from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError, NotFoundError, UnimplementedError } from "@oci-worker/errdefs";
import type { CacheMounts, CacheMountUse, Sharing } from "../cache-mounts/cache-mounts.ts";
import type { FileOwner, StepMount } from "../executor/step.ts";
import type { RefStore } from "../refs/ref-store.ts";
import { findSecret } from "../session/secrets.ts";
import type { SessionManager } from "../session/session-manager.ts";
import { findAgent } from "../session/ssh-agent.ts";
import type { OperationContext, Ref } from "../solver/operation.ts";

export interface MountParts {
  readonly refs: RefStore;
  readonly cacheMounts: CacheMounts;
  readonly sessions: SessionManager;
}

/** For whom mounts are made ready. */
export type MountContext = Pick<OperationContext, "lease" | "sessionIDs" | "signal">;

/** One mount of a step, and what becomes of it afterwards. */
export interface PreparedMount {
  readonly mount: OpMount;
  /** Undefined: the client has not what it may do without. */
  readonly step: StepMount | undefined;
  /** Gives the mount's output, when the step has ended well. */
  readonly keep: () => Promise<Ref>;
}

/** Gets the mounts of one step ready, in the order in which they are given; `undo` drops what nobody keeps. */
export class MountPreparation {
  readonly #parts: MountParts;
  readonly #inputs: readonly Ref[];
  readonly #context: MountContext;
  readonly #undo: AsyncDisposableStack;
  /** Two mounts of one step with the same cache mount have it together, whatever its sharing. */
  readonly #caches = new Map<string, CacheMountUse>();

  constructor(parts: MountParts, inputs: readonly Ref[], context: MountContext, undo: AsyncDisposableStack) {
    this.#parts = parts;
    this.#inputs = inputs;
    this.#context = context;
    this.#undo = undo;
  }

  /**
   * @param cwd the step's working directory, by which a destination goes that is not absolute.
   * @param maker what the step is, for the descriptions of what it makes.
   */
  async prepareAll(mounts: readonly OpMount[], cwd: string, maker: string): Promise<PreparedMount[]> {
    // In the order of their ids, so that two steps that lock two caches never wait for each other.
    for (const mount of mounts.filter(isCache).toSorted((a, b) => compare(cacheId(a), cacheId(b)))) {
      await this.#useCache(mount, maker);
    }
    const prepared: PreparedMount[] = [];
    for (const mount of mounts) {
      prepared.push(await this.#prepare(mount, destinationOf(mount, cwd), maker));
    }
    return prepared;
  }

  async #prepare(mount: OpMount, destination: string, maker: string): Promise<PreparedMount> {
    const base = this.#inputOf(mount);
    const unchanged = (step: StepMount | undefined) => ({ mount, step, keep: () => Promise.resolve(base) });
    const { readonly } = mount;
    switch (mount.mountType) {
      case MountType.BIND:
        return await this.#prepareBind(mount, destination, base, maker);
      case MountType.TMPFS:
        return unchanged({
          kind: "tmpfs",
          destination,
          sizeBytes: mount.TmpfsOpt?.size ?? 0n,
          writable: !readonly,
        });
      case MountType.CACHE: {
        const mounts = this.#caches.get(this.#cacheKey(mount))?.mounts ?? [];
        const selector = mount.selector || "/";
        const common = { destination, mounts, selector, writable: !readonly };
        return unchanged({ kind: "snapshot", ...common, isRemapped: true });
      }
      case MountType.SECRET:
        return unchanged(await this.#secret(mount, destination));
      case MountType.SSH:
        return unchanged(await this.#agent(mount, destination));
    }
    throw new UnimplementedError(
      `Cannot mount ${destination} of type ${mount.mountType}: want bind (0), secret (1), ssh (2), cache (3) or tmpfs (4)`,
    );
  }

  async #prepareBind(mount: OpMount, destination: string, base: Ref, maker: string): Promise<PreparedMount> {
    const { refs } = this.#parts;
    const { lease, signal } = this.#context;
    const selector = mount.selector || "/";
    const stepMount = { kind: "snapshot", destination, selector } as const;
    if (mount.readonly) {
      const { mounts } = this.#undo.use(await refs.view(base, signal));
      return { mount, step: { ...stepMount, mounts, writable: false }, keep: () => Promise.resolve(base) };
    }
    const mutable = await refs.prepare(base, { description: `mount ${mount.dest} from ${maker}` }, signal);
    let kept = false;
    this.#undo.defer(() => (kept ? Promise.resolve() : mutable.drop()));
    return {
      mount,
      step: { ...stepMount, mounts: mutable.mounts, writable: true },
      keep: async () => {
        const ref = await mutable.commit(lease);
        kept = true;
        return ref;
      },
    };
  }

  async #useCache(mount: OpMount, maker: string): Promise<void> {
    const key = this.#cacheKey(mount);
    if (this.#caches.has(key)) {
      return;
    }
    const use = await this.#parts.cacheMounts.use(
      {
        id: cacheId(mount),
        base: this.#inputOf(mount).snapshot,
        sharing: sharingOf(mount),
        description: `cached mount ${mount.dest} from ${maker}`,
      },
      this.#context.signal,
    );
    this.#undo.use(use);
    this.#caches.set(key, use);
  }

  #cacheKey(mount: OpMount): string {
    return JSON.stringify([cacheId(mount), this.#inputOf(mount).snapshot]);
  }

  async #secret({ secretOpt }: OpMount, destination: string): Promise<StepMount | undefined> {
    if (secretOpt === undefined || secretOpt.ID === "") {
      throw new InvalidArgumentError("secret ID missing from mount options");
    }
    const { sessions } = this.#parts;
    const ids = this.#context.sessionIDs();
    const finding = findSecret(sessions, ids, secretOpt.ID, this.#context.signal);
    const content = secretOpt.optional ? await orUndefined(finding, NotFoundError) : await finding;
    return content && { kind: "secret", destination, content, owner: ownerOf(secretOpt) };
  }

  async #agent({ SSHOpt }: OpMount, destination: string): Promise<StepMount | undefined> {
    if (SSHOpt === undefined) {
      throw new InvalidArgumentError(`Cannot mount an ssh agent at ${destination}: its options are missing`);
    }
    const { sessions } = this.#parts;
    const finding = findAgent(sessions, this.#context.sessionIDs(), SSHOpt.ID, this.#context.signal);
    const connect = SSHOpt.optional ? await orUndefined(finding, Error) : await finding;
    this.#context.signal.throwIfAborted();
    return connect && { kind: "agent", destination, owner: ownerOf(SSHOpt), connect };
  }

  #inputOf({ dest, input }: OpMount): Ref {
    const ref = input < 0n ? { snapshot: undefined } : this.#inputs[Number(input)];
    if (ref === undefined) {
      throw new InvalidArgumentError(`Cannot mount ${dest}: the step has no input ${input}`);
    }
    return ref;
  }
}

/** @throws {InvalidArgumentError} if it is the root under another name. */
function destinationOf({ dest }: OpMount, cwd: string): string {
  const destination = posix.resolve("/", cwd, dest);
  if (destination === "/" && dest !== "/") {
    throw new InvalidArgumentError(`Cannot mount at ${JSON.stringify(dest)}: that is the root file system`);
  }
  return destination;
}

export function isCache({ mountType }: OpMount): boolean {
  return mountType === MountType.CACHE;
}

/** @throws {InvalidArgumentError} in upstream's words. */
export function cacheId({ cacheOpt }: OpMount): string {
  if (cacheOpt === undefined) {
    throw new InvalidArgumentError("missing cache mount options");
  }
  return cacheOpt.ID;
}

function sharingOf({ cacheOpt }: OpMount): Sharing {
  switch (cacheOpt?.sharing) {
    case undefined:
    case CacheSharingOpt.SHARED:
      return "shared";
    case CacheSharingOpt.PRIVATE:
      return "private";
    case CacheSharingOpt.LOCKED:
      return "locked";
  }
  throw new InvalidArgumentError(`invalid cache sharing option: ${cacheOpt?.sharing}, want 0 to 2`);
}

/** Only permission bits: a file of the client's must not be set-uid here. */
function ownerOf({ uid, gid, mode }: FileOwner): FileOwner {
  return { uid, gid, mode: mode & 0o777 };
}

async function orUndefined<T>(
  promise: Promise<T>,
  absent: new (...args: never[]) => Error,
): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof absent) {
      return undefined;
    }
    throw error;
  }
}

function compare(left: string, right: string): number {
  return left < right ? -1 : Number(left > right);
}
