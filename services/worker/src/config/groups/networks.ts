import { isIP } from "node:net";
import { networkKinds } from "../../network/network-settings.ts";
import { shown, WrongValueError, wrongValue } from "../kind.ts";
import { directory, oneOf, path, textual, truth, wholeNumber } from "../kinds.ts";
import { setting } from "../setting.ts";

/** IFNAMSIZ of net/if.h, its NUL not counted; the kernel refuses slashes, colons and blanks, and the names "." and "..". */
const deviceName = textual("NAME", (value) => {
  if (!/^[^/:\s]{1,15}$/.test(value) || /^\.{1,2}$/.test(value)) {
    throw wrongValue(value, "a name of 1 to 15 bytes that a network device can have");
  }
  return value;
});

/** The gateway and at least one step must fit in. */
const subnet = textual("SUBNET", (value) => {
  const [address = "", length = "", ...rest] = value.split("/");
  const longest = { 0: -1, 4: 30, 6: 126 }[isIP(address)] ?? -1;
  if (!/^\d{1,3}$/.test(length) || Number(length) > longest || rest.length > 0) {
    throw new WrongValueError(`it is ${shown(value)}, want a subnet such as 10.10.0.0/16`);
  }
  return value;
});

/** The network that steps are in. */
export const networkSettings = {
  networkMode: setting(
    oneOf(networkKinds, { unknown: (value) => `invalid network mode: ${value}`, alias: { "": "auto" } }),
    {
      flag: "oci-worker-net",
      key: "worker.oci.networkMode",
      fallback: "auto",
      help: "network of steps; auto: cni if there is a configuration of it, else host",
    },
  ),
  proxyNetwork: setting(truth, {
    flag: "proxy-network",
    key: "proxyNetwork",
    fallback: false,
    help: "let steps reach networks by a proxy of the worker alone, also in builds that do not ask for it",
  }),
  cniConfigPath: setting(path, {
    flag: "oci-cni-config-path",
    key: "worker.oci.cniConfigPath",
    fallback: "/etc/buildkit/cni.json",
    help: "configuration of CNI, of one plugin or a list of them",
  }),
  cniBinaryDirectory: setting(directory, {
    flag: "oci-cni-binary-dir",
    key: "worker.oci.cniBinaryPath",
    fallback: undefined,
    unset: "/opt/cni/bin and /usr/lib/cni",
    help: "where the plugins of CNI are",
  }),
  cniPoolSize: setting(wholeNumber(0), {
    flag: "oci-cni-pool-size",
    key: "worker.oci.cniPoolSize",
    fallback: 0,
    help: "networks of steps that are made ahead of need",
  }),
  bridgeName: setting(deviceName, {
    key: "worker.oci.bridgeName",
    fallback: "buildkit0",
    help: "device of network mode bridge",
  }),
  bridgeSubnet: setting(subnet, {
    key: "worker.oci.bridgeSubnet",
    fallback: "10.10.0.0/16",
    help: "addresses of network mode bridge",
  }),
  bridgeAuto: setting(truth, {
    variable: "BUILDKIT_NETWORK_BRIDGE_AUTO",
    fallback: false,
    help: "whether network mode auto is bridge",
  }),
  cniInitLockPath: setting(path, {
    variable: "BUILDKIT_CNI_INIT_LOCK_PATH",
    fallback: undefined,
    unset: "none",
    help: "file to be locked while the network is tried out, by all workers of a host",
  }),
  rootlesskitStateDirectory: setting(directory, {
    variable: "ROOTLESSKIT_STATE_DIR",
    fallback: undefined,
    unset: "none",
    help: "state of RootlessKit, in whose detached network, if it has one, networks of steps are made",
  }),
};
