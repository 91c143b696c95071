import { readText, warningsOf } from "./say.ts";
import { allSettings, type Layer, type Saying, type SettingName } from "./settings.ts";
import { unsupportedVariables } from "./unsupported.ts";

/** What the environment says. */
export interface Environment {
  readonly layer: Layer;
  /** What the operator should know. */
  readonly warnings: readonly string[];
}

/**
 * Reads the variables that stand for settings; an empty one counts as none.
 *
 * @throws {InvalidArgumentError} naming a variable whose value is wrong.
 */
export function readEnvironment(environment: NodeJS.ProcessEnv): Environment {
  const layer = new Map<SettingName, Saying>();
  for (const [name, setting] of allSettings) {
    const { variable } = setting;
    const text = variable === undefined ? undefined : environment[variable];
    if (variable !== undefined && text) {
      layer.set(name, { value: readText(setting, text, variable), origin: variable });
    }
  }
  const warnings = [...unsupportedVariables].flatMap(([variable, unsupported]) =>
    warningsOf(unsupported, readText(unsupported, environment[variable] ?? "", variable), variable),
  );
  return { layer, warnings };
}
