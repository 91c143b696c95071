import {
  type BuildProgress,
  elapsedMs,
  isCanceled,
  type Step,
  type Task,
  taskElapsedMs,
} from "./build-progress.ts";
import type { Paint, Role, Symbols } from "./style.ts";
import { fitted, padded, textWidth } from "./text-width.ts";
import { formatBytes, formatDuration } from "./units.ts";

/** Where and how a tree is drawn. */
export interface Canvas {
  /** Columns; no line is wider. */
  readonly width: number;
  /** Most lines. */
  readonly height: number;
  readonly nowMs: number;
  readonly symbols: Symbols;
  readonly paint: Paint;
}

/** Columns below which no tree is drawn: there would be signs and times, but no names. */
const minTreeWidth = 30;

/** How long the spinner shows one sign, in milliseconds. */
const spinnerMs = 100;

/** Columns of a bar, where there is room for one. */
const barWidth = 24;

/** Columns for the amount and the rate of a task beside its bar. */
const amountWidth = 20;
const rateWidth = 11;

/** Least columns that a name keeps; before it gets less, the bar goes, and then the rate. */
const minNameWidth = 20;

/** Tasks that are shown of one step; the rest is counted. */
const maxTasks = 8;

/**
 * The progress of a build as a tree: a line a step and, while it runs, a line for each thing that it does.
 *
 * Pure: the same progress on the same canvas gives the same lines.
 */
export function treeLines(title: string, progress: BuildProgress, canvas: Canvas): string[] {
  if (canvas.width < minTreeWidth) {
    return [canvas.paint("title", fitted(title, canvas.width, canvas.symbols.ellipsis))];
  }
  const { steps } = progress;
  const settled = steps.filter((step) => progress.isSettled(step));
  const blocks = steps.map((step) => stepLines(step, settled.includes(step), canvas));
  const body = within(blocks, settled, steps, canvas);
  return [headLine(title, steps, settled.length, canvas), ...body];
}

/** What fits: settled steps go first, those at the top before the others. */
function within(
  blocks: readonly (readonly string[])[],
  settled: readonly Step[],
  steps: readonly Step[],
  { height, paint }: Canvas,
): string[] {
  const room = height - 1;
  let excess = blocks.flat().length - room;
  if (excess <= 0) {
    return blocks.flat();
  }
  // One line more, to say that some are missing.
  excess += 1;
  let hidden = 0;
  const kept = blocks.filter((block, index) => {
    const step = steps[index];
    if (excess > 0 && step !== undefined && settled.includes(step)) {
      excess -= block.length;
      hidden += 1;
      return false;
    }
    return true;
  });
  const note = hidden === 0 ? [] : [paint("faint", `  ${hidden} more done`)];
  return [...note, ...kept.flat()].slice(0, Math.max(0, room));
}

function headLine(
  title: string,
  steps: readonly Step[],
  settledCount: number,
  { width, nowMs, paint, symbols }: Canvas,
): string {
  const starts = steps.flatMap(({ runs }) => [...runs.keys()]);
  const ends = steps.flatMap(({ runs }) => [...runs.values()].map((end) => end ?? nowMs));
  const isOver = steps.length > 0 && settledCount === steps.length;
  const until = isOver ? Math.max(...ends, 0) : nowMs;
  const total = starts.length === 0 ? 0 : until - Math.min(...starts);
  const right = ` ${settledCount}/${steps.length} ${formatDuration(total)}`;
  const left = fitted(title, width - textWidth(right), symbols.ellipsis);
  return paint("title", left) + paint("faint", fitted(right, width - textWidth(left), ""));
}

function stepLines(step: Step, isSettled: boolean, canvas: Canvas): string[] {
  const { symbols, paint, width, nowMs } = canvas;
  const { role, sign, right } = standing(step, isSettled, canvas);
  const room = width - textWidth(sign) - textWidth(right) - 3;
  const name = padded(fitted(shortened(step.name), room, symbols.ellipsis), Math.max(0, room));
  const head = `${paint(role, ` ${sign}`)} ${name} ${paint(role === "failed" ? role : "faint", right)}`;
  if (isSettled) {
    return step.error === "" || isCanceled(step) ? [head] : [head, errorLine(step, canvas)];
  }
  const tasks = [...step.tasks.values()].filter(({ completedAtMs }) => completedAtMs === undefined);
  const shown = tasks.slice(0, maxTasks);
  const more = tasks.length - shown.length;
  const lines = shown.map((task, index) =>
    taskLine(task, index === shown.length - 1 && more === 0, { ...canvas, nowMs }),
  );
  return [head, ...lines, ...(more > 0 ? [paint("faint", `   ${symbols.lastBranch} ${more} more`)] : [])];
}

interface Standing {
  readonly role: Role;
  readonly sign: string;
  readonly right: string;
}

function standing(step: Step, isSettled: boolean, { symbols, nowMs }: Canvas): Standing {
  const time = formatDuration(elapsedMs(step, nowMs));
  if (step.error !== "") {
    return isCanceled(step)
      ? { role: "faint", sign: symbols.canceled, right: "CANCELED" }
      : { role: "failed", sign: symbols.failed, right: "ERROR" };
  }
  if (!isSettled) {
    const sign = symbols.spinner[Math.floor(nowMs / spinnerMs) % symbols.spinner.length] ?? "";
    return { role: "running", sign, right: time };
  }
  return step.cached
    ? { role: "cached", sign: symbols.done, right: "CACHED" }
    : { role: "done", sign: symbols.done, right: time };
}

function errorLine({ error }: Step, { width, symbols, paint }: Canvas): string {
  return paint("failed", fitted(`   ${error}`, width, symbols.ellipsis));
}

function taskLine(task: Task, isLast: boolean, { width, symbols, paint, nowMs }: Canvas): string {
  const elapsed = taskElapsedMs(task, nowMs);
  const time = formatDuration(elapsed);
  const amount = amountOf(task);
  const rate = task.current > 0 && elapsed > 0 ? `${formatBytes((task.current / elapsed) * 1000)}/s` : "";
  const start = `   ${isLast ? symbols.lastBranch : symbols.branch} `;
  let room = width - textWidth(start) - textWidth(time) - 1;
  const columns: string[] = [];
  const add = (text: string, columnWidth: number) => {
    if (text !== "" && room - columnWidth - 1 >= minNameWidth) {
      columns.push(padded(text, columnWidth));
      room -= columnWidth + 1;
    }
  };
  add(amount, amountWidth);
  add(rate, rateWidth);
  if (task.total > 0 && room - barWidth - 1 >= minNameWidth) {
    columns.unshift(bar(task, symbols, paint));
    room -= barWidth + 1;
  }
  const name = padded(fitted(shortened(task.id), room, symbols.ellipsis), Math.max(0, room));
  return `${paint("faint", start)}${[name, ...columns, paint("faint", time)].join(" ")}`;
}

function amountOf({ current, total }: Task): string {
  if (total > 0) {
    return `${formatBytes(current)} / ${formatBytes(total)}`;
  }
  return current > 0 ? formatBytes(current) : "";
}

function bar({ current, total }: Task, { barFull, barEmpty }: Symbols, paint: Paint): string {
  const share = Math.min(1, Math.max(0, current / total));
  const full = Math.round(share * barWidth);
  return paint("running", barFull.repeat(full)) + paint("faint", barEmpty.repeat(barWidth - full));
}

/** Twelve digits tell one digest from the others; docker shows as many. An image needs no word that says it is one. */
function shortened(name: string): string {
  return name
    .replace(/^docker-image:\/\//, "")
    .replace(/\bsha256:([0-9a-f]{12})[0-9a-f]{52}\b/g, "sha256:$1");
}
