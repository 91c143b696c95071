import manifest from "../package.json" with { type: "json" };

/** Name and version of this program; the version is that of every package here. */
export const packageName = "oci-worker";
export const version = manifest.version;
