import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { ContainerEdits } from "./container-edits.ts";
import type { DeviceSpec } from "./parse-spec.ts";

/** Those of the CDI specification that devices were ever written in (SPEC.md, "Released versions"). */
const versions = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"] as const;
type Version = (typeof versions)[number];

/** What came with a version, the latest first. */
const features: readonly {
  readonly since: Version;
  readonly what: string;
  readonly isUsed: (spec: DeviceSpec, edits: readonly ContainerEdits[]) => boolean;
}[] = [
  {
    since: "1.1.0",
    what: "netDevices, and schemata and enableMonitoring of intelRdt,",
    isUsed: (_spec, edits) =>
      edits.some(({ unsupported }) => unsupported.some((name) => !/CMT|MBM/.test(name))),
  },
  {
    since: "0.7.0",
    what: "intelRdt and additionalGids",
    isUsed: (_spec, edits) =>
      edits.some(({ intelRdt, additionalGids }) => intelRdt !== undefined || additionalGids.length > 0),
  },
  {
    since: "0.6.0",
    what: "annotations, and dots in the class of a kind,",
    isUsed: ({ annotations, devices, kind }) =>
      [annotations, ...devices.map((device) => device.annotations)].some(
        (each) => Object.keys(each).length > 0,
      ) || /\/.*\./.test(kind),
  },
  {
    since: "0.5.0",
    what: "hostPath, and names of devices that begin with a digit,",
    isUsed: ({ devices }, edits) =>
      devices.some(({ name }) => /^\d/.test(name)) ||
      edits.some(({ deviceNodes }) => deviceNodes.some(({ hostPath }) => hostPath !== undefined)),
  },
  {
    since: "0.4.0",
    what: "the type of a mount",
    isUsed: (_spec, edits) => edits.some(({ mounts }) => mounts.some(({ type }) => type !== "")),
  },
];

/**
 * Checks that `version` is one of the specification's, and one that has what `spec` makes use of.
 *
 * @throws {InvalidArgumentError} naming what it lacks.
 */
export function requireVersion(version: string, spec: DeviceSpec): void {
  const age = (versions as readonly string[]).indexOf(version.replace(/^v/, ""));
  if (age < 0) {
    throw new InvalidArgumentError(
      `cdiVersion is ${JSON.stringify(version)}, want one of ${versions.join(", ")}`,
    );
  }
  const edits = [spec.edits, ...spec.devices.map((device) => device.edits)];
  const newest = features.find(({ isUsed }) => isUsed(spec, edits));
  if (newest !== undefined && versions.indexOf(newest.since) > age) {
    throw new InvalidArgumentError(
      `cdiVersion is ${JSON.stringify(version)}, but ${newest.what} came with ${newest.since}: want that or a later one`,
    );
  }
}
