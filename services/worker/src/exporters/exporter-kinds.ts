import type { Platform } from "@oci-worker/oci/platform";
import type { ExporterKind } from "../builds/exporter.ts";
import type { CacheRecords } from "../cache/records.ts";
import type { ContentStore } from "../content/store.ts";
import type { ImageStore } from "../image/image-store.ts";
import type { LayerBlobTable } from "../layers/layer-blob-table.ts";
import { LayerStore } from "../layers/layer-store.ts";
import type { RefStore } from "../refs/ref-store.ts";
import { ArchiveExporter } from "./archive-exporter.ts";
import { ImageExporter } from "./image-exporter.ts";
import { ImageWriter } from "./image-writer.ts";
import { LocalExporter } from "./local.ts";

export interface ExporterParts {
  readonly refs: RefStore;
  readonly records: CacheRecords;
  readonly content: ContentStore;
  readonly images: ImageStore;
  readonly layerBlobs: LayerBlobTable;
  /** Of the worker. */
  readonly platform: Platform;
  /** Where there is room for a layer, uncompressed. */
  readonly directory: string;
}

/** What results can be exported to, by the names that clients ask for. */
export function exporterKinds(parts: ExporterParts): Readonly<Record<string, ExporterKind>> {
  const { content, images, layerBlobs: table, platform, refs } = parts;
  const layers = new LayerStore({ ...parts, table });
  const writer = new ImageWriter({ layers, content, platform });
  return {
    local: () => new LocalExporter(refs),
    image: (attributes) => new ImageExporter({ writer, content, images }, attributes),
    oci: (attributes) => new ArchiveExporter({ writer, content }, "oci", attributes),
    docker: (attributes) => new ArchiveExporter({ writer, content }, "docker", attributes),
  };
}
