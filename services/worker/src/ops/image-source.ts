import type { SourceOp } from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { Platform } from "@oci-worker/oci/platform";
import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";
import type { ImageStore, PulledImage } from "../image/image-store.ts";
import type { Operation, OperationContext, Ref } from "../solver/operation.ts";

/** The scheme of an image source. */
export const imageScheme = "docker-image://";

/** Changes when the same image would from now on give something else. */
const keyVersion = "oci-worker.image.v1";

const resolveModes = ["default", "pull", "local"];

/** The root file system of an image of a registry. */
export class ImageSourceOperation implements Operation {
  readonly #reference: Reference;
  readonly #platform: Platform;
  readonly #images: ImageStore;
  #image: Promise<PulledImage> | undefined;

  /** @throws {InvalidArgumentError} naming the part of the source that is wrong. */
  constructor({ identifier, attrs }: SourceOp, platform: Platform, images: ImageStore) {
    const mode = attrs["image.resolvemode"] ?? "default";
    if (!resolveModes.includes(mode)) {
      throw new InvalidArgumentError(
        `Cannot use source ${identifier}: image.resolvemode is ${JSON.stringify(mode)}, want ${resolveModes.join(", ")}`,
      );
    }
    this.#reference = parseReference(identifier.slice(imageScheme.length));
    this.#platform = platform;
    this.#images = images;
  }

  /** By what the image consists of, so that one root file system under two names is one. */
  async cacheKey(_inputKeys: readonly string[], context: OperationContext): Promise<Digest> {
    const { image } = await this.#resolve(context);
    return context.keyOf(JSON.stringify([keyVersion, image.chain.at(-1) ?? "scratch"]));
  }

  async execute(_inputs: readonly Ref[], context: OperationContext): Promise<readonly (Ref | undefined)[]> {
    const pulled = await this.#resolve(context);
    const snapshot = await this.#images.unpack(pulled, context);
    return [{ snapshot }];
  }

  /** Once for the whole life of the operation: key and result must be of the same image. */
  #resolve(context: OperationContext): Promise<PulledImage> {
    this.#image ??= (async () => {
      const { report } = context;
      report.begin();
      const row = report.row(`resolve ${formatReference(this.#reference)}`);
      const image = await this.#images.resolve(this.#reference, this.#platform, context);
      row.complete();
      return image;
    })();
    return this.#image;
  }
}
