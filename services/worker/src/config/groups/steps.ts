import { named, truth, wholeNumber } from "../kinds.ts";
import { setting } from "../setting.ts";

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
};
