import { setTimeout as delay } from "node:timers/promises";
import { crashWhileStarting, type ProcessOptions, type ProcessPeer, startProcess } from "../peers/process.ts";
import { Random } from "./random.ts";

/** Kills of a run where TORTURE_KILLS does not say otherwise, as in `npm test`. */
const defaultKills = 8;

/** A start takes about so long, so a kill within it may meet any part of it. */
const startMs = 700;

/** One start in so many is killed before it serves. */
const percentKilledWhileStarting = 20;

/** A line of a log that tells of something that must not be, and how many of them are told of a run that fails. */
const isError = /"level":[56]0,/;
const complaintsTold = 5;

/** How a run goes: TORTURE_KILLS says how often the process is killed, TORTURE_SEED makes it a repetition of another. */
export interface TortureSettings {
  readonly kills: number;
  readonly seed: number;
}

export function tortureSettings(environment: NodeJS.ProcessEnv): TortureSettings {
  return {
    kills: whole("TORTURE_KILLS", environment["TORTURE_KILLS"] ?? defaultKills),
    seed: whole("TORTURE_SEED", environment["TORTURE_SEED"] ?? Date.now() % 2 ** 32),
  };
}

export interface Torture {
  readonly program: ProcessOptions;
  /** A kill comes within so many milliseconds after work has begun. */
  readonly maxWorkMs: number;
  /**
   * Has clients at work until the process is gone, of which `killed` tells. Fails if anything goes wrong before, and
   * notes what was not answered any more.
   */
  work(killed: AbortSignal): Promise<void>;
  /** What happens to the machine just before the process is killed; nothing if that is not given. */
  readonly strike?: (() => void) | undefined;
  /** Looks at what the kill number `kill` has left, before anything runs on it again. */
  examine?(kill: number): Promise<void>;
  /** Holds what the process knows after a restart against what it has acknowledged before. */
  check(): Promise<void>;
}

/**
 * Kills a process at random moments, of its start as well, while clients use it, and checks after each restart. That comes
 * at once: what the process has started may still be there.
 *
 * The same seed gives the same moments and the same decisions of clients. What a kill meets still depends on the machine.
 *
 * @returns the process as it was started last.
 */
export async function torture(
  { program, maxWorkMs, work, strike, examine, check }: Torture,
  { kills, seed }: TortureSettings,
): Promise<ProcessPeer> {
  const random = new Random(seed);
  let process = await startProcess(program);
  let kill = 0;
  try {
    while (kill < kills) {
      const killed = new AbortController();
      const working = work(killed.signal);
      await Promise.race([working, delay(random.below(maxWorkMs))]);
      killed.abort();
      strike?.();
      await process.crash();
      kill += 1;
      await working;
      await examine?.(kill);
      while (kill < kills && random.chance(percentKilledWhileStarting)) {
        await crashWhileStarting(program, random.below(startMs), strike);
        kill += 1;
        await examine?.(kill);
      }
      process = await startProcess(program);
      await check();
    }
    return process;
  } catch (error) {
    await process.kill();
    const complaints = process.log.filter((line) => isError.test(line)).slice(-complaintsTold);
    throw new Error(
      `failed after kill ${kill}; run it again with TORTURE_SEED=${seed} TORTURE_KILLS=${kills}\n${complaints.join("\n")}`,
      { cause: error },
    );
  }
}

function whole(name: string, value: string | number): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 1) {
    throw new Error(`Cannot read ${name}: ${JSON.stringify(value)}, want a whole number from 1 on`);
  }
  return number;
}
