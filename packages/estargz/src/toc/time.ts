const rfc3339 = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

/** "2024-01-02T03:04:05Z", as most are written. */
const wholeSecondsBytes = 20;

const zero = 0x30;

const daySeconds = 86_400;

/**
 * Reads a time as in RFC 3339.
 *
 * @param into gets it, in seconds since 1970 and nanoseconds that count up from those.
 * @returns whether it is one.
 */
export function readTime(
  bytes: Buffer,
  start: number,
  end: number,
  into: { seconds: number; nanos: number },
): boolean {
  const seconds = end - start === wholeSecondsBytes ? wholeSeconds(bytes, start) : -1;
  if (seconds >= 0) {
    into.seconds = seconds;
    into.nanos = 0;
    return true;
  }
  // Made by a regular expression and the calendar of the language: this is rare.
  const [, date, fraction = "", zone] = rfc3339.exec(bytes.toString("latin1", start, end)) ?? [];
  const ms = Date.parse(`${date}${zone}`);
  if (Number.isNaN(ms)) {
    return false;
  }
  into.seconds = ms / 1000;
  into.nanos = Number(fraction.padEnd(9, "0"));
  return true;
}

/** A time of UTC without a fraction, from 1970 on, of a day that every month has; -1 for any other. */
function wholeSeconds(bytes: Buffer, at: number): number {
  const year = digits(bytes, at) * 100 + digits(bytes, at + 2);
  const month = digits(bytes, at + 5);
  const day = digits(bytes, at + 8);
  const hour = digits(bytes, at + 11);
  const minute = digits(bytes, at + 14);
  const second = digits(bytes, at + 17);
  const isParted =
    bytes[at + 4] === 0x2d &&
    bytes[at + 7] === 0x2d &&
    bytes[at + 10] === 0x54 &&
    bytes[at + 13] === 0x3a &&
    bytes[at + 16] === 0x3a &&
    bytes[at + 19] === 0x5a;
  const isDate = year >= 1970 && month >= 1 && month <= 12 && day >= 1 && day <= 28;
  const isTime = hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 && second < 60;
  if (!isParted || !isDate || !isTime) {
    return -1;
  }
  return daysSince1970(year, month, day) * daySeconds + hour * 3600 + minute * 60 + second;
}

/** Two digits; below 0 if it is anything else, by so much that it stays there. */
function digits(bytes: Buffer, at: number): number {
  const [high, low] = [(bytes[at] ?? 0) - zero, (bytes[at + 1] ?? 0) - zero];
  return high >= 0 && high <= 9 && low >= 0 && low <= 9 ? high * 10 + low : -100_000;
}

/** Of the Gregorian calendar, counted in years that begin in March: then the leap day is the last. */
function daysSince1970(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year;
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1;
  const leapDays = Math.floor(shifted / 4) - Math.floor(shifted / 100) + Math.floor(shifted / 400);
  return 365 * shifted + leapDays + dayOfYear - daysFrom0To1970;
}

/** From March 1 of the year 0 to 1970. */
const daysFrom0To1970 = 719_468;
