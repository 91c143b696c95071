import type { Kind } from "../kind.ts";
import { wholeNumber } from "../kinds.ts";
import { duration } from "../quantities.ts";
import { setting } from "../setting.ts";

/** What upstream's users write for "for ever": a duration or a number of seconds that is negative. */
const negative = /^-\d/;

/** How long something is taken for true, in milliseconds; Infinity: for ever. */
const age: Kind<number> = {
  ...duration,
  fromText: (value) => (isForever(value) ? Number.POSITIVE_INFINITY : duration.fromText(value)),
  fromToml: (value) => (isForever(value) ? Number.POSITIVE_INFINITY : duration.fromToml(value)),
  toToml: (value) => (value === Number.POSITIVE_INFINITY ? "-1s" : duration.toToml(value)),
};

function isForever(value: unknown): boolean {
  if (!negative.test(String(value))) {
    return false;
  }
  // What is behind the sign has to be one, too.
  duration.fromText(String(value).slice(1));
  return true;
}

/** The machine, and the machines that it asks. */
export const systemSettings = {
  platformsCacheMaxAge: setting(age, {
    key: "system.platformsCacheMaxAge",
    fallback: 0,
    help: "how long it is not looked again whether emulators have come or gone; negative: never",
  }),
  maxRegistryConcurrency: setting(wholeNumber(1), {
    key: "system.maxRegistryConcurrency",
    // BuildKit's number (util/resolver/limited).
    fallback: 4,
    help: "layers that are fetched from, or sent to, one registry at a time",
  }),
};
