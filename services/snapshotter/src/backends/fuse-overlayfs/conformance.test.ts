import { runConformance } from "../run-conformance.ts";

runConformance("fuse-overlayfs");
