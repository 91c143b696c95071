import { runConformance } from "../run-conformance.ts";

runConformance("overlayfs");
