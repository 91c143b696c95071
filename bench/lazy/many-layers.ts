import { residentMemory } from "../../e2e/peers/resident-memory.ts";
import { smallLayers } from "./image.ts";
import type { Series, Who } from "./series.ts";
import { registryWith } from "./start-up.ts";
import { prepareLayers, type StartSubject } from "./subject.ts";

/** One figure is what they take, the other how long it takes. */
export const manyLayers = 100;

/** Has each subject mount an image of {@link manyLayers} layers. */
export async function mountManyLayers(starts: ReadonlyMap<Who, StartSubject>, series: Series): Promise<void> {
  await using source = await registryWith(await smallLayers(manyLayers));
  for (const [who, start] of starts) {
    await using subject = await start({ ahead: false });
    const { now: before } = await residentMemory(subject.process.pid);
    const startedAt = performance.now();
    await prepareLayers(subject, source.image, source.layers);
    series.add(who, "mount many", performance.now() - startedAt);
    const { now } = await residentMemory(subject.process.pid);
    series.add(who, "resident", now / 2 ** 20);
    series.add(who, "resident of layers", (now - before) / 2 ** 20);
  }
}
