import { type Kind, shown, WrongValueError, wrongValue } from "../kind.ts";
import { listOf, text, truth } from "../kinds.ts";
import { type DiskSpace, diskSpace, duration } from "../quantities.ts";
import { setting } from "../setting.ts";
import { tables } from "../tables.ts";

/** Up to three spaces in one text, as `--oci-worker-gc-keepstorage` has them: reserved, free, most used. */
export interface KeptSpaces {
  readonly reservedSpace: DiskSpace;
  readonly minFreeSpace?: DiskSpace;
  readonly maxUsedSpace?: DiskSpace;
}

/** What upstream calls the parts of such a text where one is wrong. */
const partNames = ["storage", "free storage", "max storage"];

/** Plain numbers of the flag are megabytes, those of the file bytes: upstream's users know both. */
const megabyte = 1_000_000;

function keptSpaces(text: string, plainUnitBytes: number): KeptSpaces {
  const parts = text.split(",");
  if (parts.length > partNames.length) {
    throw wrongValue(text, "RESERVED[,FREE[,MAXIMUM]]");
  }
  const [reservedSpace = { bytes: 0 }, minFreeSpace, maxUsedSpace] = parts.map((part, index) => {
    try {
      return /^\d+$/.test(part) ? { bytes: Number(part) * plainUnitBytes } : diskSpace.fromText(part);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new WrongValueError(`failed to parse ${partNames[index]} ${shown(text)}: ${why}`, { cause });
    }
  });
  return { reservedSpace, ...(minFreeSpace && { minFreeSpace }), ...(maxUsedSpace && { maxUsedSpace }) };
}

const keptSpace: Kind<KeptSpaces> = {
  operand: "MB",
  fromText: (value) => keptSpaces(value, megabyte),
  fromToml: (value) =>
    typeof value === "string" ? keptSpaces(value, 1) : { reservedSpace: diskSpace.fromToml(value) },
  toToml({ reservedSpace, minFreeSpace, maxUsedSpace }) {
    const spaces = [reservedSpace, minFreeSpace, maxUsedSpace].filter((space) => space !== undefined);
    return spaces.length === 1
      ? diskSpace.toToml(reservedSpace)
      : spaces.map((space) => diskSpace.toToml(space)).join(",");
  },
};

const policies = tables({
  all: { kind: truth },
  filters: { kind: listOf(text) },
  keepDuration: { kind: duration },
  // Alone it is the most that is kept, which is what keepBytes was.
  reservedSpace: { kind: diskSpace, former: { keepBytes: undefined } },
  maxUsedSpace: { kind: diskSpace },
  minFreeSpace: { kind: diskSpace },
});

/** What is kept from build to build, and for how long. */
export const cacheSettings = {
  savesKeyTexts: setting(truth, {
    flag: "save-cache-debug",
    fallback: false,
    help: "keep what cache keys are made of, for /debug/cache of --debugaddr",
  }),
  gc: setting(truth, {
    flag: "oci-worker-gc",
    key: "worker.oci.gc",
    fallback: true,
    help: "remove from the cache what the policies do not keep",
  }),
  reservedSpace: setting(diskSpace, {
    key: "worker.oci.reservedSpace",
    fallback: undefined,
    unset: "10%, at most 10 GB",
    help: "what the cache may always take up",
  }),
  maxUsedSpace: setting(diskSpace, {
    key: "worker.oci.maxUsedSpace",
    fallback: undefined,
    unset: "80%, at most 100 GB",
    help: "what it may take up if the disk has room",
  }),
  minFreeSpace: setting(diskSpace, {
    key: "worker.oci.minFreeSpace",
    fallback: undefined,
    unset: "20%",
    help: "what it leaves free on the disk, if that takes no reserved space",
  }),
  gcKeepStorage: setting(keptSpace, {
    flag: "oci-worker-gc-keepstorage",
    key: "worker.oci.gckeepstorage",
    fallback: undefined,
    unset: "the three above",
    help: "as before BuildKit v0.17, the most that is kept, 0 for a tenth of the disk; or RESERVED,FREE[,MAXIMUM]; of the flag in MB",
  }),
  gcPolicies: setting(policies, {
    key: "worker.oci.gcpolicy",
    fallback: undefined,
    unset: "four rules with the limits above",
    help: "rules in place of the default ones: all, filters, keepDuration, reservedSpace, maxUsedSpace, minFreeSpace",
  }),
};
