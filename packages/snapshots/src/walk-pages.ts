import type { Info } from "./snapshotter.ts";

/** What the pages of a snapshotter hold, one by one: its `walk`. */
export async function* walkPages(pages: AsyncIterable<readonly Info[]>): AsyncGenerator<Info> {
  for await (const page of pages) {
    // Not `yield*`, which costs an asynchronous generator three times as much for each item.
    for (const info of page) {
      yield info;
    }
  }
}
