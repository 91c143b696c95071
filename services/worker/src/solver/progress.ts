import type { Range, SourceInfo } from "@oci-worker/api/buildkit/llb";
import type { Digest } from "@oci-worker/oci/digest";

/** What a build shows of one vertex. A later one replaces an earlier one of the same digest. */
export interface VertexState {
  readonly digest: Digest;
  readonly inputs: readonly Digest[];
  readonly name: string;
  /** The result was there already. */
  readonly cached: boolean;
  readonly startedAt: Date | undefined;
  readonly completedAt: Date | undefined;
  /** Why it failed; empty if it did not. */
  readonly error: string;
}

/** One line of work inside a vertex, such as the transfer of a blob. Replaces an earlier one of its vertex and id. */
export interface RowState {
  readonly vertex: Digest;
  readonly id: string;
  readonly name: string;
  /** Bytes or items done, and how many there are; 0 where that is not known. */
  readonly current: number;
  readonly total: number;
  readonly timestamp: Date;
  readonly startedAt: Date;
  readonly completedAt: Date | undefined;
}

/** A piece of what a vertex has written. */
export interface LogChunk {
  readonly vertex: Digest;
  /** 1 is its standard output, 2 its standard error. */
  readonly stream: 1 | 2;
  readonly data: Uint8Array;
  readonly timestamp: Date;
}

/** What a frontend warns people of. */
export interface Warning {
  /** What it is about. */
  readonly vertex: Digest;
  readonly level: number;
  /** One line, and more lines. */
  readonly short: Uint8Array;
  readonly detail: readonly Uint8Array[];
  /** Where to read more; empty for nowhere. */
  readonly url: string;
  /** The file that it is about, and where in it, as the frontend has said. */
  readonly source: SourceInfo | undefined;
  readonly ranges: readonly Range[];
}

export type ProgressEvent =
  | { readonly kind: "vertex"; readonly vertex: VertexState }
  | { readonly kind: "row"; readonly row: RowState }
  | { readonly kind: "log"; readonly log: LogChunk }
  | { readonly kind: "warning"; readonly warning: Warning };

/**
 * What has happened in a build, from its beginning: whoever asks late is told all of it.
 */
export class ProgressLog {
  readonly #events: ProgressEvent[] = [];
  #news = Promise.withResolvers<void>();
  #ended = false;

  append(event: ProgressEvent): void {
    if (!this.#ended) {
      this.#events.push(event);
      this.#announce();
    }
  }

  /** What has been reported so far. */
  get events(): readonly ProgressEvent[] {
    return this.#events;
  }

  /** No more events will come; followers end when they have seen what there is. */
  end(): void {
    this.#ended = true;
    this.#announce();
  }

  /** The events so far in one batch, then further ones in batches as they come, until the log or `signal` ends it. */
  async *follow(signal: AbortSignal): AsyncGenerator<readonly ProgressEvent[], void> {
    const aborted = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => aborted.resolve(), { once: true });
    for (let seen = 0; !signal.aborted; ) {
      const news = this.#news.promise;
      if (seen < this.#events.length) {
        const batch = this.#events.slice(seen);
        seen += batch.length;
        yield batch;
      } else if (this.#ended) {
        return;
      } else {
        await Promise.race([news, aborted.promise]);
      }
    }
  }

  #announce(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }
}
