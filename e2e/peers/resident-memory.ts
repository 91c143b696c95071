import { readFile } from "node:fs/promises";

/** Memory of the process `pid` that is in RAM, in bytes, as it is now and at its most (proc(5), VmRSS and VmHWM). */
export async function residentMemory(pid: number): Promise<{ now: number; peak: number }> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const bytes = (name: string): number => {
    const kibibytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
    if (kibibytes === undefined) {
      throw new Error(`/proc/${pid}/status has no ${name}`);
    }
    return Number(kibibytes) * 1024;
  };
  return { now: bytes("VmRSS"), peak: bytes("VmHWM") };
}
