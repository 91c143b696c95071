import { InvalidArgumentError, ResourceExhaustedError, ServiceError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import { TransientError } from "./http/errors.ts";
import { partOf, type RequestBody } from "./http/request.ts";
import {
  finishUpload,
  type Operation,
  sendPiece,
  startUpload,
  type UploadPlace,
  uploadPlace,
} from "./upload-place.ts";

/** The largest pieces that are tried: proxies before registries are known to take from 1 to 100 MB. */
const largestPieceBytes = 16 * 1024 * 1024;

/** Who does not take as much takes no blob of any size. */
const smallestPieceBytes = 256 * 1024;

/** What is to be sent. */
export interface Content {
  readonly digest: Digest;
  readonly body: RequestBody;
}

/** How far the sending of a blob to one host has come: kept from one try to the next, so that it goes on from there. */
export class Sending {
  readonly #content: Content;
  /** How much is sent at once. */
  #pieceBytes = Number.POSITIVE_INFINITY;
  #place: UploadPlace | undefined;

  constructor(content: Content) {
    this.#content = content;
  }

  /**
   * Sends the blob: as a whole, from where an earlier try has broken off, or in pieces where the whole is too much at once for the
   * registry or a proxy before it, and in smaller ones where those are too large as well.
   *
   * @param place where the registry has just begun an upload.
   * @throws {ResourceExhaustedError} if no size is small enough.
   */
  async send(operation: Operation, place?: UploadPlace): Promise<void> {
    let begun = place === undefined ? await this.#resumed(operation) : { place, offset: 0 };
    for (;;) {
      try {
        await this.#sendFrom(operation, begun ?? { place: await startUpload(operation), offset: 0 });
        return;
      } catch (error) {
        const isTooLarge = error instanceof ResourceExhaustedError && this.#takeSmallerPieces();
        // What it said that it had kept was not what came, so it finds another digest.
        const isSpoilt = error instanceof InvalidArgumentError && begun !== undefined && begun.offset > 0;
        if (!isTooLarge && !isSpoilt) {
          throw error;
        }
        begun = undefined;
      }
    }
  }

  async #sendFrom(operation: Operation, { place, offset }: Begun): Promise<void> {
    const { digest, body } = this.#content;
    this.#place = place;
    const pieceBytes = Math.max(this.#pieceBytes, place.minPieceBytes);
    if (offset === 0 && pieceBytes >= body.sizeBytes) {
      await finishUpload(operation, place, digest, body);
      return;
    }
    for (let at = offset; at < body.sizeBytes; at += pieceBytes) {
      const piece = partOf(body, at, Math.min(pieceBytes, body.sizeBytes - at));
      this.#place = await sendPiece(operation, this.#place, at, piece);
    }
    await finishUpload(operation, this.#place, digest);
  }

  /** @returns false if there are none. */
  #takeSmallerPieces(): boolean {
    const { sizeBytes } = this.#content.body;
    do {
      this.#pieceBytes = Math.min(largestPieceBytes, this.#pieceBytes / 4);
    } while (this.#pieceBytes >= sizeBytes);
    return this.#pieceBytes >= smallestPieceBytes;
  }

  /** Where an earlier try can be gone on with; undefined if there was none, or the registry does not know of it any more. */
  async #resumed({ endpoint, purpose, signal }: Operation): Promise<Begun | undefined> {
    const { sizeBytes } = this.#content.body;
    if (this.#place === undefined) {
      return undefined;
    }
    const { url } = this.#place;
    this.#place = undefined;
    try {
      using response = await endpoint.send({ method: "GET", url, purpose, load: "document" }, signal);
      // One that has nothing says 0-0, as if it had one byte.
      const [, end = "0"] = /^(?:bytes=)?0-(\d{1,15})$/.exec(response.header("range") ?? "") ?? [];
      const offset = Number(end) + 1;
      return response.status === 204 && offset > 1 && offset <= sizeBytes
        ? { place: uploadPlace(response), offset }
        : undefined;
    } catch (error) {
      if (error instanceof ServiceError && !(error instanceof TransientError)) {
        return undefined;
      }
      throw error;
    }
  }
}

/** An upload of which the registry has the first `offset` bytes. */
interface Begun {
  readonly place: UploadPlace;
  readonly offset: number;
}
