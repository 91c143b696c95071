/** Upstream's number; a hundred infos are some 50 KB. */
const maxItems = 100;

/** What Go's gRPC clients take when nobody has told them otherwise. containerd's and BuildKit's take 16 MiB. */
const maxBatchBytes = 4 * 1024 * 1024;

/**
 * Groups the items of `pages` anew, so that a stream sends few, full messages and none that its reader would refuse.
 *
 * @param sizeOf about how many bytes an item becomes.
 */
export async function* batches<T>(
  pages: AsyncIterable<readonly T[]>,
  sizeOf: (item: T) => number,
): AsyncGenerator<T[]> {
  let batch: T[] = [];
  let bytes = 0;
  for await (const page of pages) {
    for (const item of page) {
      const size = sizeOf(item);
      if (batch.length === maxItems || (batch.length > 0 && bytes + size > maxBatchBytes)) {
        yield batch;
        batch = [];
        bytes = 0;
      }
      batch.push(item);
      bytes += size;
    }
  }
  if (batch.length > 0) {
    yield batch;
  }
}
