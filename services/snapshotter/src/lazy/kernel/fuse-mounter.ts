import { hasEnded } from "@oci-worker/fuse/device";
import { detachOurs, forgetHeldMount, type HeldMount, makeHeldMount } from "./held-mount.ts";
import type { LayerMounter, LayerToMount, PassedOver, ServeDevice } from "./layer-mounter.ts";
import { lookAtElsewhere } from "./look-up.ts";
import { unmountUnused } from "./unmount-unused.ts";

/**
 * Mounts each layer as a file system of its own that is served: for where the kernel has no EROFS, or will not mount it
 * for us, as in a user namespace. Every first look at a file is a request.
 */
export class FuseMounter implements LayerMounter {
  readonly mode = "fuse";
  readonly passedOver;
  readonly adopted;
  readonly #directory: string;
  readonly #mounts: readonly HeldMount[];
  /** By target: until it is no longer served, and forgotten if it has ended. */
  readonly #served = new Map<string, { readonly mount: HeldMount; readonly ended: Promise<void> }>();
  #serve: ServeDevice | undefined;

  constructor(directory: string, mounts: readonly HeldMount[], passedOver: readonly PassedOver[]) {
    // One that cannot be taken over is out of sight by now.
    this.adopted = mounts.length > 0;
    this.#directory = directory;
    this.#mounts = mounts;
    this.passedOver = passedOver;
  }

  serveWith(serve: ServeDevice): void {
    this.#serve = serve;
    for (const mount of this.#mounts) {
      this.#serveMount(mount, serve);
    }
  }

  async mountLayer({ number, metaPath }: LayerToMount, target: string): Promise<void> {
    if (this.#serve === undefined) {
      throw new Error("nobody serves yet what is to be mounted");
    }
    const mount = await makeHeldMount(this.#directory, target, { number, metaPath });
    this.#serveMount(mount, this.#serve);
    try {
      // From now on the kernel knows the directory, and this process may look at it too.
      await lookAtElsewhere(target);
    } catch (error) {
      await detachOurs(target, this.#directory);
      throw error;
    }
  }

  async unmountLayer(target: string): Promise<void> {
    unmountUnused(target);
    const served = this.#served.get(target);
    if (served !== undefined && hasEnded(served.mount.fd)) {
      await served.ended;
    }
  }

  /** Everything stays, for the next process to serve: what nobody wants any more has been unmounted. */
  async [Symbol.asyncDispose](): Promise<void> {}

  #serveMount(mount: HeldMount, serve: ServeDevice): void {
    this.#served.set(mount.target, { mount, ended: this.#untilEnded(mount, serve) });
  }

  /** Serves `mount` until it is gone, and then lets go of it; or until this process is to end. */
  async #untilEnded(mount: HeldMount, serve: ServeDevice): Promise<void> {
    const { target, layer, fd, isAdopted } = mount;
    if (layer === undefined) {
      return;
    }
    await serve({
      kind: "layer",
      fd,
      target,
      isAdopted,
      layerNumber: layer.number,
      metaPath: layer.metaPath,
    });
    if (hasEnded(fd)) {
      if (this.#served.get(target)?.mount === mount) {
        this.#served.delete(target);
      }
      await forgetHeldMount(mount);
    }
  }
}
