import { createHash } from "node:crypto";
import { DataLossError, InvalidArgumentError } from "@oci-worker/errdefs";
import { tocDigestOf } from "@oci-worker/estargz/annotations";
import type { BuildOptions, BuiltLayer } from "@oci-worker/estargz/build";
import { InexpressibleError } from "@oci-worker/estargz/inexpressible";
import { openLayer, sizedBlob } from "@oci-worker/estargz/open";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { type Digest, digestOfHash, hexOf } from "@oci-worker/oci/digest";
import type { ImageLayer } from "@oci-worker/oci/manifest";
import { layerType } from "@oci-worker/oci/media-type";
import type { Repository } from "@oci-worker/registry/repository";
import { buildInThread } from "./build-in-thread.ts";
import { builtDescriptor } from "./documents.ts";
import { named } from "./named.ts";
import type { Step, Steps, StepTask } from "./steps.ts";
import { TemporaryFile } from "./temporary-file.ts";

/** What of a layer's making is not the layer's own. */
export type LayerSettings = Required<Pick<BuildOptions, "format">> &
  Pick<BuildOptions, "chunkBytes" | "minMemberBytes" | "level" | "maxUnpackedBytes">;

/** A layer of the new image. */
export interface ConvertedLayer {
  readonly descriptor: Descriptor;
  readonly diffID: Digest;
  /** Why it is the one that the image had; undefined if it was built. */
  readonly keptBecause: string | undefined;
  /** Of the priorities, those that it has not got first: a layer that was kept has none. */
  readonly missing: readonly string[];
}

export interface LayerConverterParts {
  readonly source: Repository;
  readonly target: Repository;
  /** The source's name, if the target's registry may have its blobs. */
  readonly mountFrom: string | undefined;
  readonly settings: LayerSettings;
  /** For temporary files: as large as a layer, what it unpacks to and the new one together, for each in work. */
  readonly directory: string;
  readonly steps: Steps;
}

/** Gets layers into the target, each in the wanted format. One that several images have is built once. */
export class LayerConverter {
  readonly #parts: LayerConverterParts;
  readonly #converted = new Map<string, Promise<ConvertedLayer>>();

  constructor(parts: LayerConverterParts) {
    this.#parts = parts;
  }

  /**
   * Gets `layer` into the target. One that is in the format already is not built again, unless there are priorities: then
   * nobody knows whether it has those.
   *
   * @param title for people.
   * @throws naming the layer.
   */
  convert(
    layer: ImageLayer,
    title: string,
    priorities: readonly string[] | undefined,
    signal: AbortSignal,
  ): Promise<ConvertedLayer> {
    const key = JSON.stringify([layer.blob.digest, layer.diffID, priorities]);
    const known = this.#converted.get(key);
    if (known !== undefined) {
      return known;
    }
    const converting = this.#parts.steps.run(title, signal, async (step) => {
      try {
        return await this.#convert(layer, priorities, step, signal);
      } catch (error) {
        signal.throwIfAborted();
        throw named(`Cannot convert layer ${layer.blob.digest}`, error);
      }
    });
    this.#converted.set(key, converting);
    return converting;
  }

  /** Gets a blob into the target as it is. */
  async copy(blob: Descriptor, signal: AbortSignal): Promise<void> {
    const { source, target, mountFrom } = this.#parts;
    const body = { sizeBytes: blob.size, open: () => source.fetchBlob(blob, signal) };
    await target.pushBlob({ digest: blob.digest, body, ...(mountFrom && { mountFrom }) }, signal);
  }

  async #convert(
    layer: ImageLayer,
    priorities: readonly string[] | undefined,
    step: Step,
    signal: AbortSignal,
  ): Promise<ConvertedLayer> {
    const { blob } = layer;
    const type = layerType(blob.mediaType);
    const keep = async (keptBecause: string): Promise<ConvertedLayer> => {
      if (type?.distributable !== false) {
        await this.copy(blob, signal);
      }
      return { descriptor: blob, diffID: layer.diffID, keptBecause, missing: priorities ?? [] };
    };
    if (type === undefined) {
      return await keep(`it is no layer of files, but ${blob.mediaType}`);
    }
    if (!type.distributable) {
      return await keep("registries do not have such layers");
    }
    if (priorities === undefined && (await this.#isConverted(blob, signal))) {
      step.cached();
      return await keep("it is in this format already");
    }
    try {
      return await this.#build(layer, priorities ?? [], step, signal);
    } catch (error) {
      if (!(error instanceof InexpressibleError)) {
        throw error;
      }
      step.warn(`kept as it is, and will not be read in parts: ${error.obstacle}`);
      return await keep(error.obstacle);
    }
  }

  /** Whether `blob` is what its annotations say, and in the wanted format. */
  async #isConverted(blob: Descriptor, signal: AbortSignal): Promise<boolean> {
    try {
      const trusted = tocDigestOf(blob.annotations ?? {});
      if (trusted === undefined) {
        return false;
      }
      const read = async (offset: number, length: number) => {
        const pieces = this.#parts.source.fetchBlob({ ...blob, offset, length }, signal);
        return Buffer.concat(await Array.fromAsync(pieces));
      };
      const layer = await openLayer(sizedBlob(blob.size, read), { trusted });
      return layer?.format === this.#parts.settings.format;
    } catch (error) {
      // What cannot be read in parts as it is shall be built anew.
      if (error instanceof InvalidArgumentError || error instanceof DataLossError) {
        return false;
      }
      throw error;
    }
  }

  async #build(
    { blob, diffID }: ImageLayer,
    priorities: readonly string[],
    step: Step,
    signal: AbortSignal,
  ): Promise<ConvertedLayer> {
    const { directory, settings } = this.#parts;
    await using written = new TemporaryFile(directory);
    let layer: BuiltLayer;
    {
      // It takes room only until the new layer is there.
      await using fetched = new TemporaryFile(directory);
      await this.#fetch(blob, fetched, step, signal);
      const unpacking = step.task("unpack", blob.size);
      let building: StepTask | undefined;
      layer = await buildInThread(
        {
          sourceFd: fetched.fd,
          sourceBytes: blob.size,
          targetFd: written.fd,
          options: { ...settings, priorities, diffID, directory },
        },
        ({ readBytes, writtenBytes }) => {
          unpacking.reach(readBytes);
          if (writtenBytes > 0) {
            building ??= step.task("build", 0);
            building.reach(writtenBytes);
          }
        },
        signal,
      );
      unpacking.end();
      building?.end();
    }
    await this.#push(layer, written, step, signal);
    const { mediaType, digest, sizeBytes: size, annotations, missing } = layer;
    return {
      descriptor: builtDescriptor(blob, { mediaType, digest, size, annotations }),
      diffID: layer.diffID,
      keptBecause: undefined,
      missing,
    };
  }

  /** @throws {DataLossError} if what comes is not what its digest says. */
  async #fetch(blob: Descriptor, file: TemporaryFile, step: Step, signal: AbortSignal): Promise<void> {
    const fetching = step.task("fetch", blob.size);
    const hash = createHash("sha256");
    let position = 0;
    for await (const piece of this.#parts.source.fetchBlob(blob, signal)) {
      hash.update(piece);
      await file.write(piece, position);
      position += piece.length;
      fetching.reach(position);
    }
    const digest = digestOfHash(hash);
    if (digest !== blob.digest) {
      throw new DataLossError(`what came has digest ${digest}`);
    }
    fetching.end();
  }

  async #push(
    { digest, sizeBytes }: BuiltLayer,
    file: TemporaryFile,
    step: Step,
    signal: AbortSignal,
  ): Promise<void> {
    const pushing = step.task("push", sizeBytes);
    const open = () => file.read(sizeBytes, (position) => pushing.reach(position));
    await this.#parts.target.pushBlob({ digest, body: { sizeBytes, open } }, signal);
    pushing.reach(sizeBytes);
    pushing.end();
  }
}

/** How people know a layer: enough of its digest to tell it from others. */
export function shortDigest(digest: Digest): string {
  return hexOf(digest).slice(0, 12);
}
