import { InvalidArgumentError } from "@oci-worker/errdefs";

/** What a client lets its build have of devices (`--allow device...`). */
export interface DeviceGrant {
  /** Whether that is every device. */
  readonly all: boolean;
  /** Names as in requests. */
  readonly names: readonly string[];
  /** What stands for a device in the requests of the build, and the name of that device. */
  readonly aliases: ReadonlyMap<string, string>;
}

const entitlement = "device";

/**
 * Reads what `entitlements` say of devices: `device` for all, or `device=NAME`, `device=NAME,alias=ALIAS`.
 *
 * @returns undefined if they say nothing of them.
 * @throws {InvalidArgumentError} for another form, in upstream's words.
 */
export function deviceGrant(entitlements: readonly string[]): DeviceGrant | undefined {
  const own = entitlements.filter((text) => text === entitlement || text.startsWith(`${entitlement}=`));
  if (own.length === 0) {
    return undefined;
  }
  const names: string[] = [];
  const aliases = new Map<string, string>();
  let all = false;
  for (const text of own) {
    const [name = "", ...fields] = text.slice(entitlement.length + 1).split(",");
    const alias = fields.map((field) => aliasOf(field, text)).at(-1);
    if (name === "" && alias === undefined) {
      all = true;
    } else if (alias === undefined) {
      names.push(name);
    } else {
      aliases.set(alias, name);
    }
  }
  return { all, names, aliases };
}

function aliasOf(field: string, text: string): string {
  const [, key, value = ""] = /^([^=]*)=(.*)$/.exec(field) ?? [];
  if (key !== "alias" || value === "") {
    const problem =
      key === undefined || key === "alias"
        ? `invalid device config ${JSON.stringify(field)}`
        : `unknown device config key ${JSON.stringify(key)}`;
    throw new InvalidArgumentError(
      `${problem} in entitlement ${JSON.stringify(text)}, want device, device=NAME or device=NAME,alias=ALIAS`,
    );
  }
  return value;
}
