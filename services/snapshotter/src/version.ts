import manifest from "../package.json" with { type: "json" };

/** Version of this program, which is that of every package here. */
export const version = manifest.version;
