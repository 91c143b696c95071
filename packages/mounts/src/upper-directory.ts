import type { Mount } from "./mount.ts";
import { layersOf } from "./read-only.ts";

/**
 * The one directory that `upper` shows above all that `lower` shows, if that is how the two differ: whatever is different in
 * `upper` has an entry of the same name in there.
 */
export function upperDirectoryOver(lower: readonly Mount[], upper: readonly Mount[]): string | undefined {
  const [[below, ...moreBelow], [above, ...moreAbove]] = [lower, upper];
  if (below === undefined || above === undefined || moreBelow.length > 0 || moreAbove.length > 0) {
    return undefined;
  }
  const beneath = layersOf(below);
  const [top, ...rest] = layersOf(above) ?? [];
  return beneath !== undefined && rest.length > 0 && rest.join("\0") === beneath.join("\0") ? top : undefined;
}
