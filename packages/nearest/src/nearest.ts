/** How many typing mistakes a name may have to be taken for another one. */
const maxMistakes = 3;

/** The name among `known` that is most like `text`, or undefined if none is at all alike. */
export function nearest(text: string, known: readonly string[]): string | undefined {
  const limit = Math.min(maxMistakes, Math.ceil(text.length / 2));
  const rated = known
    .map((name) => ({ name, mistakes: name.startsWith(text) ? 0 : distance(text, name) }))
    .sort((a, b) => a.mistakes - b.mistakes);
  const [best] = rated;
  return best !== undefined && best.mistakes <= limit ? best.name : undefined;
}

/** Letters to insert, remove, replace or exchange with their neighbour to make `b` of `a` (Damerau-Levenshtein). */
function distance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const same = a[row - 1] === b[column - 1];
      const isSwap = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      current[column] = Math.min(
        (current[column - 1] ?? 0) + 1,
        (last[column] ?? 0) + 1,
        (last[column - 1] ?? 0) + (same ? 0 : 1),
        row > 1 && column > 1 && isSwap ? (beforeLast[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? 0;
}
