import type { SpecInput } from "./oci-spec.ts";
import { sandboxPrivileges } from "./privileges.ts";

/** A sandboxed step that asks for nothing. */
export const plainInput: SpecInput = {
  id: "x1",
  rootfsPath: "/b/rootfs",
  readonlyRootfs: false,
  args: ["true"],
  env: [],
  cwd: "/",
  user: { uid: 0, gid: 0, additionalGids: [0] },
  hostname: "",
  network: "host",
  resolvConfPath: "/r",
  hostsPath: "/h",
  mounts: [],
  tracing: undefined,
  unifiedCgroups: false,
  cgroupParent: "",
  limits: [],
  privileges: sandboxPrivileges("x64", ""),
  labels: undefined,
};
