import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parse, type ScalarTag } from "yaml";
import { type ContainerEdits, isEmpty } from "./container-edits.ts";
import { isDeviceName, isKind } from "./names.ts";
import { editsAt } from "./parse-edits.ts";
import { formAt, listAt, type Place, requiredAt, tableAt, textAt, textsByName } from "./place.ts";
import { requireVersion } from "./version.ts";

/** A file of the CDI specification, checked. */
export interface DeviceSpec {
  /** `vendor/class`. */
  readonly kind: string;
  /** Said of all its devices. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Made once for a container that gets one of its devices or more. */
  readonly edits: ContainerEdits;
  readonly devices: readonly SpecifiedDevice[];
}

export interface SpecifiedDevice {
  /** Within its kind. */
  readonly name: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly edits: ContainerEdits;
}

/** `fileMode: 0660` is octal to YAML 1.1, which upstream's reader speaks, and decimal to 1.2. */
const octal: ScalarTag = {
  tag: "tag:yaml.org,2002:int",
  default: true,
  test: /^[-+]?0[0-7]+$/,
  resolve: (text) => Number.parseInt(text, 8),
};

/**
 * Reads the text of a file of the CDI specification, JSON or YAML.
 *
 * @throws {InvalidArgumentError} naming the place that is wrong, and what is wanted there.
 */
export function parseSpec(text: string): DeviceSpec {
  const place: Place = { value: documentOf(text), path: "" };
  const table = tableAt(place, ["cdiVersion", "kind", "annotations", "devices", "containerEdits"]);
  const version = textAt(requiredAt(table.cdiVersion, place, "cdiVersion"));
  const spec = {
    kind: formAt(requiredAt(table.kind, place, "kind"), isKind, "VENDOR/CLASS, such as vendor.com/gpu"),
    annotations: textsByName(table.annotations),
    edits: editsAt(table.containerEdits),
    devices: listAt(requiredAt(table.devices, place, "devices")).map(deviceAt),
  };
  requireDistinct(spec.devices);
  requireVersion(version, spec);
  return spec;
}

function documentOf(text: string): unknown {
  try {
    // Warnings would go to standard error.
    return parse(text, { mapAsMap: true, customTags: (tags) => [octal, ...tags], logLevel: "error" });
  } catch (cause) {
    // The lines after the first show the text that is wrong.
    const [problem = ""] = String(cause instanceof Error ? cause.message : cause).split("\n");
    throw new InvalidArgumentError(`it is neither JSON nor YAML: ${problem.replace(/:$/, "")}`, { cause });
  }
}

function deviceAt(place: Place): SpecifiedDevice {
  const { name, annotations, containerEdits } = tableAt(place, ["name", "annotations", "containerEdits"]);
  const edits = editsAt(containerEdits);
  if (isEmpty(edits)) {
    throw new InvalidArgumentError(`${place.path} has no containerEdits, want at least one`);
  }
  return {
    name: formAt(
      requiredAt(name, place, "name"),
      isDeviceName,
      'letters and digits, between them also ".", "_", "-" and ":"',
    ),
    annotations: textsByName(annotations),
    edits,
  };
}

function requireDistinct(devices: readonly SpecifiedDevice[]): void {
  const names = devices.map(({ name }) => name);
  if (names.length === 0) {
    throw new InvalidArgumentError("devices is empty, want at least one");
  }
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    throw new InvalidArgumentError(`devices has ${JSON.stringify(twice)} twice, want each name once`);
  }
}
