import type { Kind } from "./kind.ts";

/** One thing that an operator can set, with the names that buildkitd has for it. */
export interface Setting<T = unknown, Fallback = unknown> extends SettingNames<T> {
  readonly kind: Kind<T>;
  readonly fallback: Fallback;
  /** What holds if it is not set, for people; undefined if {@link fallback} says it. */
  readonly unset?: string;
  /** One line for --help. */
  readonly help: string;
}

export interface SettingNames<T> {
  /** Without its dashes; undefined if no flag sets it. */
  readonly flag?: string;
  /** Path in buildkitd.toml; undefined if the file cannot set it. */
  readonly key?: string;
  /** Of the environment; stronger than the file, weaker than the flag. */
  readonly variable?: string;
  /** Other spellings, such as those of an earlier release of BuildKit. They are taken, with a warning. */
  readonly former?: readonly FormerName<T>[];
}

export interface FormerName<T> {
  readonly flag?: string;
  readonly key?: string;
  /** How it is said under this name, if otherwise. */
  readonly kind?: Kind<T>;
}

/**
 * Declares a setting. One whose fallback is undefined may be set to nothing by an empty text, as upstream's default
 * values are empty texts.
 */
export function setting<T, const Fallback extends T | undefined>(
  kind: Kind<T>,
  rest: Omit<Setting<T, Fallback>, "kind">,
): Setting<T, Fallback> {
  return { kind, ...rest };
}

/** What a setting comes to. */
export type SettingValue<S> =
  S extends Setting<infer T, infer Fallback> ? T | (undefined extends Fallback ? undefined : never) : never;

/** A heading of --help with the settings beneath it. */
export interface SettingGroup {
  readonly title: string;
  readonly settings: Readonly<Record<string, Setting>>;
}
