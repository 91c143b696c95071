import manifest from "../package.json" with { type: "json" };

/** The version of every program here: that of this package, which is that of all. */
export const version = manifest.version;
