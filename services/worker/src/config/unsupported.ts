/**
 * What buildkitd can be told and this worker cannot do, by flag and by key, and what to do instead. Each of them would
 * change what builds may do or where what they say goes, so that to pass over one would be worse than not to start.
 */
const reasons = {
  userRemap: "steps run with the ids of the worker: want a worker in a user namespace of its own (rootless)",
  proxy: "this worker puts no proxy before its steps: want a network of CNI's that does",
} as const;

export const unsupportedKeys: ReadonlyMap<string, string> = new Map([
  ["worker.oci.userRemapUnsupported", reasons.userRemap],
  ["proxyNetwork", reasons.proxy],
]);

export const unsupportedFlags: ReadonlyMap<string, string> = new Map([["proxy-network", reasons.proxy]]);
