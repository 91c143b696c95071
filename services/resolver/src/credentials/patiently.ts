import { within } from "../within.ts";

/** How long those who are asked may take before they are passed over for the time being, and who is told. */
export interface Patience<I> {
  readonly patienceMs: number;
  /** Called for each that was passed over. */
  readonly onSlow?: (item: I) => void;
}

/**
 * What `ask` says of each of `items`. They are asked one after another, and only as far as answers are wanted: asking
 * has its price.
 *
 * One that takes long does not hold up the others: the next one is asked, and a late answer comes after theirs.
 */
export async function* patiently<I, A>(
  items: readonly I[],
  ask: (item: I) => Promise<A>,
  { patienceMs, onSlow }: Patience<I>,
): AsyncGenerator<A> {
  const late = new Set<Promise<A>>();
  for (const item of items) {
    const answer = ask(item);
    const answered = await within(answer, patienceMs);
    if (answered !== undefined) {
      yield answered.value;
    } else {
      // Its failure is told when it is waited for; nobody may want to any more.
      answer.catch(() => undefined);
      late.add(answer);
      onSlow?.(item);
    }
  }
  while (late.size > 0) {
    const { answer, value } = await Promise.race(
      [...late].map(async (each) => ({ answer: each, value: await each })),
    );
    late.delete(answer);
    yield value;
  }
}
