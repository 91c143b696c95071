import { isIP } from "node:net";
import { UnavailableError } from "@oci-worker/errdefs";

/** What a plugin says that it has made (SPEC.md, section 5, "Success"): passed on to the next one as it is. */
export type CniResult = Readonly<Record<string, unknown>>;

/**
 * Reads the answer to ADD.
 *
 * @param type of the plugin, for errors.
 * @throws {UnavailableError} if it is none, or one of another version than was spoken.
 */
export function parseResult(output: string, type: string, cniVersion: string): CniResult {
  const refuse = (problem: string) =>
    new UnavailableError(`plugin type=${JSON.stringify(type)} failed (add): ${problem}`);
  let result: unknown;
  try {
    result = JSON.parse(output);
  } catch {
    throw refuse(`its answer is no JSON: ${JSON.stringify(output.slice(0, 200))}`);
  }
  if (typeof result !== "object" || result === null || Array.isArray(result)) {
    throw refuse("its answer is no JSON object");
  }
  const answered = "cniVersion" in result ? result.cniVersion : cniVersion;
  if (answered !== cniVersion) {
    throw refuse(`it was spoken to in CNI ${cniVersion} and answered in ${JSON.stringify(answered)}`);
  }
  const wrong = addressesOf(result as CniResult).find((address) => !isAddress(address));
  if (wrong !== undefined) {
    throw refuse(`it gave the address ${JSON.stringify(wrong)}, want one such as "10.1.0.2/16"`);
  }
  return result as CniResult;
}

/** The addresses of a result, each with the length of its prefix: in a list, or one of each family before CNI 0.3. */
export function addressesOf({ ips, ip4, ip6 }: CniResult): unknown[] {
  return [
    ...(Array.isArray(ips) ? ips : []).map((each: unknown) => property(each, "address")),
    ...[ip4, ip6].flatMap((each) => (each === undefined ? [] : [property(each, "ip")])),
  ];
}

function property(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

function isAddress(value: unknown): boolean {
  const [ip = "", length, ...rest] = typeof value === "string" ? value.split("/") : [];
  return isIP(ip) !== 0 && length !== undefined && /^\d{1,3}$/.test(length) && rest.length === 0;
}
