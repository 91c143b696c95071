import { readText } from "./say.ts";
import { allSettings, type Layer, type Saying, type SettingName } from "./settings.ts";

/**
 * Reads the variables that stand for settings; an empty one counts as none.
 *
 * @throws {InvalidArgumentError} naming a variable whose value is wrong.
 */
export function readEnvironment(environment: NodeJS.ProcessEnv): Layer {
  const layer = new Map<SettingName, Saying>();
  for (const [name, setting] of allSettings) {
    const { variable } = setting;
    const text = variable === undefined ? undefined : environment[variable];
    if (variable !== undefined && text) {
      layer.set(name, { value: readText(setting, text, variable), origin: variable });
    }
  }
  return layer;
}
