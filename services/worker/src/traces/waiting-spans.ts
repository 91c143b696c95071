/** Spans of one trace, as text. */
export interface Spans {
  readonly texts: string[];
  /** The sum of their lengths. */
  characters: number;
}

/** Of all traces together. */
const limits = { spans: 1000, characters: 2 * 1024 * 1024 };

/** So long they are kept for a build that may come. */
const keptMs = 60_000;

/**
 * Spans of traces that no build is known of: a client may send its first ones before it asks for the build. Where there is
 * no room for more, those that came first give way.
 */
export class WaitingSpans {
  /** In the order of their latest span. */
  readonly #traces = new Map<string, Spans & { lastAtMs: number }>();
  #count = 0;
  #characters = 0;

  add(traceID: string, text: string): void {
    const spans = this.#traces.get(traceID) ?? { texts: [], characters: 0, lastAtMs: 0 };
    spans.texts.push(text);
    spans.characters += text.length;
    spans.lastAtMs = performance.now();
    this.#traces.delete(traceID);
    this.#traces.set(traceID, spans);
    this.#count += 1;
    this.#characters += text.length;
    this.#forget(spans.lastAtMs - keptMs);
  }

  /** Gives what there is of a trace, and keeps it no longer. */
  take(traceID: string): Spans {
    this.#forget(performance.now() - keptMs);
    const { texts, characters } = this.#traces.get(traceID) ?? { texts: [], characters: 0 };
    this.#delete(traceID);
    return { texts, characters };
  }

  #forget(cutOffMs: number): void {
    for (const [traceID, { lastAtMs }] of this.#traces) {
      if (lastAtMs >= cutOffMs && this.#count <= limits.spans && this.#characters <= limits.characters) {
        return;
      }
      this.#delete(traceID);
    }
  }

  #delete(traceID: string): void {
    const spans = this.#traces.get(traceID);
    if (spans !== undefined) {
      this.#traces.delete(traceID);
      this.#count -= spans.texts.length;
      this.#characters -= spans.characters;
    }
  }
}
