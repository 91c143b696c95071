import { type Kind, shown, WrongValueError, wrongValue } from "../kind.ts";
import { named, textual, truth, wholeNumber } from "../kinds.ts";
import { setting } from "../setting.ts";

/** Whose subordinate ids steps have on the host. */
export interface RemapUser {
  /** By name or number. */
  readonly user: string;
  /** Which must be there; subordinate group ids go by user as well, as upstream. */
  readonly group?: string;
}

const accountPattern = /^[^\s:,-][^\s:,]*$/;

const remapUser: Kind<RemapUser> = textual(
  "USER",
  (value) => {
    const [user = "", group, ...rest] = value.split(":");
    if (rest.length > 0) {
      throw new WrongValueError(
        `invalid userns remap specification in ${shown(value)}, want USER or USER:GROUP`,
      );
    }
    if (![user, group ?? user].every((name) => accountPattern.test(name))) {
      throw wrongValue(value, "USER or USER:GROUP, by name or number");
    }
    return { user, ...(group !== undefined && { group }) };
  },
  ({ user, group }) => (group === undefined ? user : `${user}:${group}`),
);

/** How steps run, and what confines them. */
export const stepSettings = {
  maxParallelism: setting(wholeNumber(0), {
    flag: "oci-max-parallelism",
    key: "worker.oci.max-parallelism",
    fallback: 0,
    unset: "no limit",
    help: "how many steps run at a time; 0 for no limit",
  }),
  apparmorProfile: setting(named("PROFILE"), {
    flag: "oci-worker-apparmor-profile",
    key: "worker.oci.apparmor-profile",
    fallback: "",
    help: "AppArmor profile of sandboxed steps, which must be loaded",
  }),
  selinux: setting(truth, {
    flag: "oci-worker-selinux",
    key: "worker.oci.selinux",
    fallback: false,
    help: "label steps and their files for SELinux, each step with categories of its own",
  }),
  // Defaults of BuildKit (util/progress/logs).
  stepLogMaxBytes: setting(wholeNumber(-1), {
    variable: "BUILDKIT_STEP_LOG_MAX_SIZE",
    fallback: 2 * 1024 * 1024,
    help: "bytes of each stream of a step's output that are passed on; -1 for no limit",
  }),
  stepLogMaxBytesPerSecond: setting(wholeNumber(-1), {
    variable: "BUILDKIT_STEP_LOG_MAX_SPEED",
    fallback: 200 * 1024,
    help: "bytes a second of each stream that are passed on; -1 for no limit",
  }),
  echoesSteps: setting(truth, {
    variable: "BUILDKIT_DEBUG_EXEC_OUTPUT",
    fallback: false,
    help: "log what steps print, too, at whatever level",
  }),
  remapUser: setting(remapUser, {
    key: "worker.oci.userRemapUnsupported",
    fallback: undefined,
    help: "user, or user:group, whose ids of /etc/subuid and /etc/subgid steps have on the host in place of its root's and users'",
  }),
};
