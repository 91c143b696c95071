import type { MessageInitShape } from "@bufbuild/protobuf";
import type { APICapSchema } from "@oci-worker/api/buildkit/api-caps";

type Capability = MessageInitShape<typeof APICapSchema>;

/**
 * What the gateway does. Clients look here before they call, and refuse what is missing with a clean error of their
 * own: so only what works is listed.
 */
export const frontendCapabilities = enabled([
  "solve.base",
  "resolveimage",
  "resolveimage.resolvemode",
  "readfile",
  "readdir",
  "statfile",
  "return",
  "proto.refarray",
  "reference.output",
  "gateway.solve.metadata",
  "gateway.solve.evaluate",
  "gateway.evaluate",
  "gateway.exec",
  "gateway.exec.extrahosts",
  "gateway.exec.secretenv",
  "gateway.exec.signals",
  "gateway.warnings",
]);

/** What operations do. */
export const llbCapabilities = enabled([
  "source.image",
  "source.image.resolvemode",
  "exec.cgroup",
  "exec.meta.base",
  "exec.meta.cdi",
  "exec.meta.cgroup.parent",
  "exec.meta.network",
  "exec.meta.proxyenv",
  "exec.meta.removemountstubs.recursive",
  "exec.meta.security",
  "exec.meta.security.devices.v1",
  "exec.meta.setsdefaultpath",
  "exec.meta.ulimit",
  "exec.mount.bind",
  "exec.mount.bind.readwrite-nooutput",
  "exec.mount.cache",
  "exec.mount.cache.sharing",
  "exec.mount.secret",
  "exec.mount.selector",
  "exec.mount.ssh",
  "exec.mount.tmpfs",
  "exec.mount.tmpfs.size",
  "exec.secretenv",
  "exec.validexitcode",
  "constraints",
  "platform",
  "meta.ignorecache",
  "meta.description",
]);

function enabled(ids: readonly string[]): Capability[] {
  return ids.map((ID) => ({ ID, Enabled: true }));
}
