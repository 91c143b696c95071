import { arch } from "node:process";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { Descriptor } from "./descriptor.ts";

/** What an image runs on (OCI image-spec, image-index.md). */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly osVersion?: string;
}

/** What a platform may be written as: containerd, platforms/platforms.go. */
const component = /^[A-Za-z0-9_-]{1,64}$/;

/** `GOOS` and `GOARCH` values that stand for a platform when one of them is written alone. */
const knownSystems = new Set(
  "aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris wasip1 windows zos".split(
    " ",
  ),
);
const knownArchitectures = new Set(
  "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm".split(" "),
);

/** Node's names of architectures that Go calls otherwise. */
const architectureOfNode: Readonly<Record<string, string>> = { ia32: "386", x64: "amd64", mipsel: "mipsle" };

/** The platform of this machine; we run on Linux alone. */
export const hostPlatform: Platform = normalizePlatform({
  os: "linux",
  architecture: architectureOfNode[arch] ?? arch,
});

/**
 * Reads `os/architecture[/variant]`, or one of the first two alone, and normalises it.
 *
 * @throws {InvalidArgumentError} if it has another form or a single word is neither system nor architecture.
 */
export function parsePlatform(text: string): Platform {
  const parts = text.split("/");
  const bad = parts.find((part) => !component.test(part));
  if (bad !== undefined || parts.length > 3) {
    throw new InvalidArgumentError(
      `Cannot use ${JSON.stringify(text.slice(0, 200))} as a platform: want os/architecture or os/architecture/variant of letters, digits, "_" and "-"`,
    );
  }
  const [first = "", second, variant] = parts;
  if (second !== undefined) {
    return normalizePlatform({ os: first, architecture: second, ...(variant && { variant }) });
  }
  const alone = normalizePlatform({ os: first, architecture: first });
  if (knownSystems.has(alone.os)) {
    return { ...hostPlatform, os: alone.os };
  }
  if (knownArchitectures.has(alone.architecture)) {
    return { ...alone, os: hostPlatform.os };
  }
  throw new InvalidArgumentError(
    `Cannot use ${JSON.stringify(text)} as a platform: it is neither an operating system nor an architecture that is known, want such as linux/amd64`,
  );
}

/** `os/architecture[/variant]`. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, ...(variant ? [variant] : [])].join("/");
}

/** The one spelling of platforms that have several: containerd, platforms/database.go. */
export function normalizePlatform(platform: Platform): Platform {
  const { variant: _variant, ...rest } = platform;
  const os = platform.os.toLowerCase();
  const [architecture, variant] = normalizeArchitecture(
    platform.architecture.toLowerCase(),
    platform.variant?.toLowerCase() ?? "",
  );
  return {
    ...rest,
    os: os === "macos" ? "darwin" : os,
    architecture,
    ...(variant && { variant }),
  };
}

function normalizeArchitecture(architecture: string, variant: string): [string, string] {
  switch (architecture) {
    case "i386":
      return ["386", ""];
    case "x86_64":
    case "x86-64":
    case "amd64":
      return ["amd64", variant === "v1" ? "" : variant];
    case "aarch64":
    case "arm64":
      return ["arm64", variant === "8" || variant === "v8" ? "" : variant];
    case "armhf":
      return ["arm", "v7"];
    case "armel":
      return ["arm", "v6"];
    case "arm":
      return ["arm", /^[5-8]$/.test(variant) ? `v${variant}` : variant || "v7"];
    default:
      return [architecture, variant];
  }
}

/** Whether something for `platform` runs where `wanted` is asked for. */
export function platformMatches(wanted: Platform, platform: Platform): boolean {
  return rank(runnable(wanted), platform) !== undefined;
}

/**
 * The images of an index that run where `wanted` is asked for, the best fit first.
 *
 * Entries that do not say what they run on come last: their config has to be asked. Entries that fit equally
 * well keep the order of the index.
 */
export function candidatesFor(wanted: Platform, entries: readonly Descriptor[]): Descriptor[] {
  const vector = runnable(wanted);
  const ranked: { readonly entry: Descriptor; readonly rank: number }[] = [];
  for (const entry of entries) {
    const fit = entry.platform === undefined ? vector.length : rank(vector, entry.platform);
    if (fit !== undefined) {
      ranked.push({ entry, rank: fit });
    }
  }
  return ranked.sort((a, b) => a.rank - b.rank).map(({ entry }) => entry);
}

/** Position of `platform` in `vector`. */
function rank(vector: readonly Platform[], platform: Platform): number | undefined {
  const { os, architecture, variant } = normalizePlatform(platform);
  const index = vector.findIndex(
    (each) => each.os === os && each.architecture === architecture && each.variant === variant,
  );
  return index < 0 ? undefined : index;
}

/** Platforms whose programs run on `wanted`, the best first: containerd, platforms/compare.go, `Only`. */
function runnable(wanted: Platform): Platform[] {
  const { os, architecture, variant } = normalizePlatform(wanted);
  const own = normalizePlatform({ os, architecture, ...(variant && { variant }) });
  const level = Number(/^v(\d)$/.exec(variant ?? "")?.[1] ?? 0);
  switch (architecture) {
    case "amd64":
      return [own, ...variants(os, "amd64", level - 1, 1), { os, architecture: "386" }];
    case "arm":
      return [own, ...variants(os, "arm", level - 1, 5)];
    case "arm64":
      return [own, ...variants(os, "arm", level || 8, 5)];
    default:
      return [own];
  }
}

/** `architecture` with each variant from `v<from>` down to `v<to>`. */
function variants(os: string, architecture: string, from: number, to: number): Platform[] {
  const count = Math.max(0, from - to + 1);
  return Array.from({ length: count }, (_, index) =>
    normalizePlatform({ os, architecture, variant: `v${from - index}` }),
  );
}
