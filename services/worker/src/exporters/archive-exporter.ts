import type { Descriptor } from "@oci-worker/oci/descriptor";
import type { ExportContext, Exporter } from "../builds/exporter.ts";
import type { ContentStore } from "../content/store.ts";
import type { Ref } from "../solver/operation.ts";
import { Attributes } from "./attributes.ts";
import { imageArchive } from "./image-archive.ts";
import { type ImageOptions, takeImageOptions } from "./image-options.ts";
import { type ImageWriter, imageResponse, type WrittenImage } from "./image-writer.ts";
import { requireFileTaker, sendFile } from "./send-file.ts";

export interface ArchiveExporterParts {
  readonly writer: ImageWriter;
  readonly content: ContentStore;
}

/** On the descriptor of an image in a layout: when that was made (OCI image-spec, annotations.md). */
const createdAnnotation = "org.opencontainers.image.created";

/** `type=oci` and `type=docker`: an image in a file of the client's, as an OCI image layout; the second also for `docker load`. */
export class ArchiveExporter implements Exporter {
  readonly name: string;
  readonly #parts: ArchiveExporterParts;
  readonly #variant: "oci" | "docker";
  readonly #options: ImageOptions;

  /** @throws {InvalidArgumentError} naming the attribute at fault. */
  constructor(
    parts: ArchiveExporterParts,
    variant: "oci" | "docker",
    attributes: Readonly<Record<string, string>>,
  ) {
    this.name = `exporting to ${variant} image format`;
    this.#parts = parts;
    this.#variant = variant;
    this.#options = takeImageOptions(new Attributes(attributes), variant === "oci");
  }

  async export(result: Ref, context: ExportContext): Promise<Readonly<Record<string, string>>> {
    const { session, report, signal } = context;
    const client = requireFileTaker(session);
    const written = await this.#parts.writer.write(result, this.#options, context);
    const image = { ...written, descriptor: this.#dated(written) };
    const response = imageResponse(image);
    const row = report.row("sending tarball");
    const archive = imageArchive(image, this.#parts.content, this.#variant === "docker");
    await sendFile(client, archive, response, (sentBytes) => row.update(sentBytes, 0), signal);
    row.complete();
    return response;
  }

  #dated({ descriptor }: WrittenImage): Descriptor {
    const { epochSeconds } = this.#options;
    const seconds = epochSeconds ?? Math.floor(Date.now() / 1000);
    const created = new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
    return { ...descriptor, annotations: { [createdAnnotation]: created, ...descriptor.annotations } };
  }
}
