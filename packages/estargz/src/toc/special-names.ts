/** The entry of the archive that is the TOC (stargz-snapshotter, docs/estargz.md, "TOC and TOCEntries"). */
export const tocName = "stargz.index.json";

/** Where this is, the files end that shall be there before a container starts (docs/estargz.md, "Landmark Files"). */
export const prefetchLandmark = ".prefetch.landmark";

/** Says that there are none. */
export const noPrefetchLandmark = ".no.prefetch.landmark";

/** What a landmark has in it: four bits of ones. */
export const landmarkContent: Buffer = Buffer.from([0x0f]);
