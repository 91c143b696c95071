import type { DatabaseSync, SQLOutputValue, StatementSync } from "node:sqlite";
import { parseDigest } from "@oci-worker/oci/digest";
import type { LayerBlob, LayerFormat } from "./layer-blob.ts";

/** Which blobs each snapshot can be handed out as. That they are known does not say that they are there. */
export class LayerBlobTable {
  readonly #insert: StatementSync;
  readonly #replace: StatementSync;
  readonly #select: StatementSync;

  constructor(database: DatabaseSync) {
    const row = "(record, format, media_type, digest, size_bytes, diff_id, annotations, reference)";
    const values = "VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    this.#insert = database.prepare(`INSERT OR IGNORE INTO layer_blobs ${row} ${values}`);
    this.#replace = database.prepare(`INSERT OR REPLACE INTO layer_blobs ${row} ${values}`);
    this.#select = database.prepare("SELECT * FROM layer_blobs WHERE record = ? ORDER BY format");
  }

  of(record: string): LayerBlob[] {
    return this.#select.all(record).map(blobOf);
  }

  /** Notes a blob of `record`, in place of another one of its format. */
  put(record: string, blob: LayerBlob): void {
    this.#replace.run(record, ...valuesOf(blob));
  }

  /** Notes a blob of `record`, unless there is one of its format: that may be here, and this one is not. */
  suggest(record: string, blob: LayerBlob): void {
    this.#insert.run(record, ...valuesOf(blob));
  }
}

function valuesOf({ format, descriptor, diffID, reference }: LayerBlob) {
  const { mediaType, digest, size, annotations = {} } = descriptor;
  return [format, mediaType, digest, size, diffID, JSON.stringify(annotations), reference ?? null];
}

function blobOf(row: Readonly<Record<string, SQLOutputValue>>): LayerBlob {
  return {
    format: String(row["format"]) as LayerFormat,
    descriptor: {
      mediaType: String(row["media_type"]),
      digest: parseDigest(String(row["digest"])),
      size: Number(row["size_bytes"]),
      annotations: JSON.parse(String(row["annotations"])),
    },
    diffID: parseDigest(String(row["diff_id"])),
    reference: row["reference"] === null ? undefined : String(row["reference"]),
  };
}
