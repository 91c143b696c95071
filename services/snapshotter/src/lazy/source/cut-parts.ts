/** A stretch of a blob. */
export interface PartPlace {
  readonly offset: number;
  readonly sizeBytes: number;
}

/**
 * Cuts `parts` out of the bytes of a blob that come from the beginning of the first of them on. They are in order, do not
 * overlap, and may have gaps between them. Each is given to `take` as soon as it is complete, and the one before has been
 * taken: that may take its time while the bytes of the next come. It must not reject.
 */
export async function cutParts<T extends PartPlace>(
  bytes: AsyncIterable<Buffer>,
  parts: readonly T[],
  take: (part: T, bytes: Buffer) => Promise<void> | undefined,
): Promise<void> {
  const left = parts.values();
  let part = left.next().value;
  let position = part?.offset ?? 0;
  let taken = part && Buffer.allocUnsafe(part.sizeBytes);
  let filled = 0;
  let taking: Promise<void> | undefined;
  try {
    for await (const piece of bytes) {
      let at = 0;
      while (part !== undefined && taken !== undefined && at < piece.length) {
        // What is before the part is a gap.
        at += Math.max(0, Math.min(piece.length - at, part.offset + filled - position - at));
        const copied = piece.copy(taken, filled, at);
        at += copied;
        filled += copied;
        if (filled < part.sizeBytes) {
          break;
        }
        await taking;
        taking = take(part, taken);
        part = left.next().value;
        taken = part && Buffer.allocUnsafe(part.sizeBytes);
        filled = 0;
      }
      position += piece.length;
    }
  } finally {
    await taking;
  }
}
