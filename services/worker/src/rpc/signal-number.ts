import { constants } from "node:os";
import { InvalidArgumentError } from "@oci-worker/errdefs";

/** The real-time signals that programs may use, as the C library counts them (signal(7)). */
const [firstRealTime, lastRealTime] = [34, 64];

const numbers: ReadonlyMap<string, number> = new Map(Object.entries(constants.signals));

/**
 * The number of a signal that a client names, without "SIG": `TERM`, `RTMIN+1`, `RTMAX-2`.
 *
 * @throws {InvalidArgumentError} if there is no such signal, in upstream's words.
 */
export function signalNumber(name: string): number {
  const number = numbers.get(`SIG${name}`) ?? realTime(name);
  if (number === undefined) {
    throw new InvalidArgumentError(`Unknown signal ${name.slice(0, 100)}, want one such as TERM or RTMIN+1`);
  }
  return number;
}

function realTime(name: string): number | undefined {
  const [, edge, offset = "0"] = /^(RTMIN|RTMAX)([+-]\d{1,2})?$/.exec(name) ?? [];
  const number = (edge === "RTMIN" ? firstRealTime : lastRealTime) + Number(offset);
  return edge !== undefined && number >= firstRealTime && number <= lastRealTime ? number : undefined;
}
