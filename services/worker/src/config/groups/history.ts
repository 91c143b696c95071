import { wholeNumber } from "../kinds.ts";
import { duration } from "../quantities.ts";
import { setting } from "../setting.ts";

/** What is remembered of builds. A build is forgotten when it is beyond both limits. */
export const historySettings = {
  historyMaxAge: setting(duration, {
    key: "history.maxAge",
    fallback: 48 * 3_600_000,
    help: "builds that ended within that time are remembered",
  }),
  historyMaxEntries: setting(wholeNumber(0), {
    key: "history.maxEntries",
    fallback: 50,
    help: "so many builds are remembered however old they are",
  }),
};
