import { NotFoundError } from "@oci-worker/errdefs";
import { type ContainerEdits, joinEdits } from "./container-edits.ts";
import { isKind, splitName } from "./names.ts";
import type { DeviceSpec } from "./parse-spec.ts";

/** A device that steps can have. */
export interface Device {
  /** With its kind: `vendor/class=name`. */
  readonly name: string;
  /** Where it was found. */
  readonly spec: DeviceSpec;
  /** Its own, over those of its specification. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Whether builds get it without asking their user. */
  readonly isAutoAllowed: boolean;
  /** Those of its specification not counted. */
  readonly edits: ContainerEdits;
}

/** What a step asks for. */
export interface DeviceRequest {
  /**
   * `vendor/class=name`, `vendor/class=*` for all of a kind, `vendor/class` for the first of it, or what devices say by
   * {@link classAnnotation} that they are.
   */
  readonly name: string;
  /** Whether it goes on if there is no such device. */
  readonly optional: boolean;
}

/** By which a device says that it is had by that name, too. Upstream's. */
const classAnnotation = "org.mobyproject.buildkit.device.class";

/** The devices that there are at one time, by their names, in the order of these. */
export class Devices {
  readonly #byName: ReadonlyMap<string, Device>;

  constructor(devices: Iterable<Device>) {
    const sorted = [...devices].toSorted((left, right) => (left.name < right.name ? -1 : 1));
    this.#byName = new Map(sorted.map((device) => [device.name, device]));
  }

  [Symbol.iterator](): Iterator<Device> {
    return this.#byName.values();
  }

  /** The devices that `name` of a request stands for; none if there is no such device. */
  find(name: string): readonly Device[] {
    const ofKind = this.#ofKind(name);
    return ofKind.length > 0
      ? ofKind
      : [...this].filter(({ annotations }) => annotations[classAnnotation] === name);
  }

  /**
   * What a container is changed by that gets the devices `names`: each specification once, before its first device.
   *
   * @throws {NotFoundError} naming those that are not there any more.
   */
  edits(names: readonly string[]): ContainerEdits {
    const missing = names.filter((name) => !this.#byName.has(name));
    if (missing.length > 0) {
      throw new NotFoundError(
        `unresolvable CDI devices ${missing.join(", ")}: they were there when the build began, want them to stay`,
      );
    }
    const given = names.flatMap((name) => this.#byName.get(name) ?? []);
    const seen = new Set<DeviceSpec>();
    return joinEdits(
      given.flatMap(({ edits, spec }) => {
        const isFirst = !seen.has(spec);
        seen.add(spec);
        return isFirst ? [spec.edits, edits] : [edits];
      }),
    );
  }

  #ofKind(text: string): readonly Device[] {
    const { kind, name } = splitName(text);
    if (!isKind(kind)) {
      return [];
    }
    const all = [...this].filter((device) => splitName(device.name).kind === kind);
    switch (name) {
      case "":
        return all.slice(0, 1);
      case "*":
        return all;
      default:
        return all.filter((device) => device.name === text);
    }
  }
}
