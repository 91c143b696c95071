import type { APICap } from "@oci-worker/api/buildkit/api-caps";
import type { Definition } from "@oci-worker/api/buildkit/llb";
import { UnimplementedError } from "@oci-worker/errdefs";

/** What a daemon that lists no capabilities has (BuildKit, grpcclient/client.go: frozen when lists came up). */
const oldGatewayCapabilities = ["solve.base", "solve.inlinereturn", "resolveimage", "readfile"];
const oldLlbCapabilities = [
  "source.image",
  "source.local",
  "source.local.unique",
  "source.local.sessionid",
  "source.local.includepatterns",
  "source.local.followpaths",
  "source.local.excludepatterns",
  "source.local.sharedkeyhint",
  "source.git",
  "source.git.keepgitdir",
  "source.git.fullurl",
  "source.http",
  "source.http.checksum",
  "source.http.perm",
  "soruce.http.uidgid",
  "source.buildop.llbfilename",
  "exec.meta.base",
  "exec.meta.proxyenv",
  "exec.mount.bind",
  "exec.mount.cache",
  "exec.mount.cache.sharing",
  "exec.mount.selector",
  "exec.mount.tmpfs",
  "exec.mount.secret",
  "constraints",
  "platform",
  "meta.ignorecache",
  "meta.description",
  "meta.exportcache",
];

/** What one daemon can do, so that a build that it cannot do fails before it starts. */
export class Capabilities {
  readonly #reasons: ReadonlyMap<string, string>;

  /** @param listed the daemon's list; an empty one means `implied`. */
  constructor(listed: readonly APICap[], implied: readonly string[]) {
    const caps =
      listed.length === 0 ? implied.map((ID) => ({ ID, Enabled: true, DisabledReasonMsg: "" })) : listed;
    this.#reasons = new Map(
      caps.map(({ ID, Enabled, DisabledReasonMsg }) => [
        ID,
        Enabled ? "" : DisabledReasonMsg || "it is disabled",
      ]),
    );
  }

  static ofGateway(listed: readonly APICap[]): Capabilities {
    return new Capabilities(listed, oldGatewayCapabilities);
  }

  static ofLlb(listed: readonly APICap[]): Capabilities {
    return new Capabilities(listed, oldLlbCapabilities);
  }

  has(name: string): boolean {
    return this.#reasons.get(name) === "";
  }

  /** @throws {UnimplementedError} if the daemon cannot do that. */
  require(name: string): void {
    const reason = this.#reasons.get(name);
    if (reason !== "") {
      const why = reason === undefined ? "" : `: ${reason}`;
      throw new UnimplementedError(`requested feature ${name} is not supported by build server${why}`);
    }
  }

  /** @throws {UnimplementedError} if the daemon cannot do all that `definition` needs. */
  requireAllOf({ metadata }: Definition): void {
    for (const { caps } of Object.values(metadata)) {
      for (const name of Object.keys(caps)) {
        this.require(name);
      }
    }
  }
}
