import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parseReference, type Reference } from "@oci-worker/oci/reference";
import type { ExportContext, Exporter } from "../builds/exporter.ts";
import type { Ref } from "../solver/operation.ts";
import { Attributes } from "./attributes.ts";
import { givenName, type ImageOptions, takeImageOptions } from "./image-options.ts";
import { type ImageWriter, imageResponse, type WrittenImage } from "./image-writer.ts";
import { type PushParts, pushImage } from "./push-image.ts";

export interface ImageExporterParts extends PushParts {
  readonly writer: ImageWriter;
}

/** About an image store, such as containerd's. BuildKit's OCI worker has none either, and passes over them. */
const ofImageStores = ["unpack", "store", "name-canonical", "unsafe-internal-store-allow-incomplete"];

/**
 * `type=image`: an image in the worker's content store, which goes to a registry if the client wants that (BuildKit,
 * exporter/containerimage).
 */
export class ImageExporter implements Exporter {
  readonly name = "exporting to image";
  readonly #parts: ImageExporterParts;
  readonly #options: ImageOptions;
  readonly #pushes: boolean;
  readonly #byDigest: boolean;
  readonly #isInsecure: boolean;
  /** Becomes a name with the digest behind it, for an image that the client has no name for. */
  readonly #danglingPrefix: string | undefined;

  /** @throws {InvalidArgumentError} naming the attribute at fault. */
  constructor(parts: ImageExporterParts, attributes: Readonly<Record<string, string>>) {
    const own = new Attributes(attributes);
    this.#parts = parts;
    this.#pushes = own.flag("push", false);
    this.#byDigest = own.flag("push-by-digest", false);
    this.#isInsecure = own.flag("registry.insecure", false);
    this.#danglingPrefix = own.text("dangling-name-prefix") || undefined;
    for (const name of ofImageStores) {
      own.flag(name, false);
    }
    this.#options = takeImageOptions(own, false);
    const { name } = this.#options;
    if (this.#pushes && (name ?? this.#danglingPrefix) === undefined) {
      throw new InvalidArgumentError("Cannot push image: it has no name, want name=HOST/REPOSITORY:TAG");
    }
    if (this.#pushes && name !== undefined && name !== "*") {
      this.#targets(name);
    }
  }

  async export(result: Ref, context: ExportContext): Promise<Readonly<Record<string, string>>> {
    const image = await this.#parts.writer.write(result, this.#options, context);
    const name = this.#nameOf(image, context);
    if (this.#pushes) {
      const isInsecure = this.#isInsecure;
      const before: Reference[] = [];
      for (const target of this.#targets(name)) {
        await pushImage(image, { ...target, isInsecure, before }, this.#parts, context);
        before.push(target.reference);
      }
    }
    return { ...imageResponse(image), ...(name !== "" && { "image.name": name }) };
  }

  /** As the client has it: what it is told of its image is what it has said itself. */
  #nameOf({ descriptor }: WrittenImage, { metadata }: ExportContext): string {
    const given = givenName(this.#options, { ...metadata, ...this.#options.metadata });
    return given === "" && this.#danglingPrefix !== undefined
      ? `${this.#danglingPrefix}@${descriptor.digest}`
      : given;
  }

  /** @throws {InvalidArgumentError} if one of the names is none, or has a tag where the digest is to be the name. */
  #targets(names: string): { readonly name: string; readonly reference: Reference }[] {
    return names.split(",").map((name) => {
      const reference = parseReference(name);
      if (!this.#byDigest) {
        return { name, reference };
      }
      const { domain, repository } = reference;
      if (/[:@]/.test(name.slice(name.lastIndexOf("/") + 1))) {
        throw new InvalidArgumentError(
          `can't push tagged ref ${name} by digest, want ${domain}/${repository}`,
        );
      }
      return { name, reference: { domain, repository } };
    });
  }
}
