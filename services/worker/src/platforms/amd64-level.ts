/**
 * What each level of x86-64 adds to the one beneath it, by the names that the kernel has in /proc/cpuinfo
 * (x86-64 psABI, "Micro-Architecture Levels").
 */
const flagsByLevel: ReadonlyMap<number, readonly string[]> = new Map([
  [2, ["cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2"]],
  [3, ["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"]],
  [4, ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]],
]);

/** The level of x86-64, 1 to 4, of the processor that /proc/cpuinfo tells of. */
export function amd64Level(cpuinfo: string): number {
  const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(" "));
  let level = 1;
  for (const [next, wanted] of flagsByLevel) {
    if (!wanted.every((flag) => flags.has(flag))) {
      break;
    }
    level = next;
  }
  return level;
}
