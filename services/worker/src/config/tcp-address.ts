import { wrongValue } from "./kind.ts";

/** A place in the network to listen at. */
export interface HostAndPort {
  /** Empty for every address of the machine. */
  readonly host: string;
  readonly port: number;
}

/**
 * Reads `HOST:PORT`, with or without `tcp://` before it. An IPv6 address stands in brackets.
 *
 * @param example for the error.
 * @throws {WrongValueError} saying what is wanted.
 */
export function tcpAddress(text: string, example = "tcp://127.0.0.1:1234 or tcp://[::1]:1234"): HostAndPort {
  const [, bracketed, name, port = ""] =
    /^(?:tcp:\/\/)?(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]*)):(\d{1,5})$/.exec(text) ?? [];
  const number = Number(port);
  if (port === "" || number < 1 || number > 65_535) {
    throw wrongValue(text, `HOST:PORT with a port from 1 to 65535, such as ${example}`);
  }
  return { host: bracketed ?? name ?? "", port: number };
}
