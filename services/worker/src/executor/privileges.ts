import { ownCapabilities, sandboxCapabilities } from "./capabilities.ts";
import { insecureDevices, type SpecDevice } from "./devices.ts";
import { defaultSeccompProfile, type SeccompProfile } from "./seccomp.ts";

/** A rule of linux.resources.devices (config-linux.md, "Allowed Device list"). */
export interface DeviceRule {
  readonly allow: boolean;
  readonly type?: "c" | "b";
  /** Absent: every one. */
  readonly major?: number;
  readonly minor?: number;
  readonly access: string;
}

type CapabilitySet = "bounding" | "effective" | "inheritable" | "permitted" | "ambient";

/** What a step may do to the machine it runs on. */
export interface Privileges {
  readonly capabilities: Readonly<Partial<Record<CapabilitySet, readonly string[]>>>;
  /** Undefined: every system call is allowed. */
  readonly seccomp: SeccompProfile | undefined;
  /** Empty for none. */
  readonly apparmorProfile: string;
  /** What of /proc and /sys is hidden, and what may only be read; undefined for neither. */
  readonly hidden:
    | { readonly maskedPaths: readonly string[]; readonly readonlyPaths: readonly string[] }
    | undefined;
  /** Whether /sys may be written to. */
  readonly writableSys: boolean;
  readonly deviceRules: readonly DeviceRule[];
  /** Beside those that the runtime gives to every container. */
  readonly devices: readonly SpecDevice[];
}

const hidden = {
  maskedPaths: [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
  ],
  readonlyPaths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
};

/**
 * What a step may do unless it asks for more: the default capabilities and seccomp profile, no device but the runtime's
 * default ones.
 *
 * @param machine as in `process.arch`.
 * @param apparmorProfile empty for none.
 */
export function sandboxPrivileges(machine: string, apparmorProfile: string): Privileges {
  return {
    capabilities: {
      bounding: sandboxCapabilities,
      effective: sandboxCapabilities,
      permitted: sandboxCapabilities,
    },
    seccomp: defaultSeccompProfile(sandboxCapabilities, machine),
    apparmorProfile,
    hidden,
    writableSys: false,
    deviceRules: [{ allow: false, access: "rwm" }],
    devices: [],
  };
}

/** What a step with the entitlement `security.insecure` may do: all that this process may. */
export function insecurePrivileges(
  capabilities: readonly string[] = ownCapabilities(),
  devices: readonly SpecDevice[] = insecureDevices(),
): Privileges {
  return {
    capabilities: {
      bounding: capabilities,
      effective: capabilities,
      inheritable: capabilities,
      permitted: capabilities,
      ambient: capabilities,
    },
    seccomp: undefined,
    apparmorProfile: "",
    hidden: undefined,
    writableSys: true,
    deviceRules: [
      { allow: true, type: "c", access: "rwm" },
      { allow: true, type: "b", access: "rwm" },
    ],
    devices,
  };
}
