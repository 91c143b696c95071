/** Labels of a sample, by name. */
export type Labels = Readonly<Record<string, string>>;

type MetricType = "counter" | "gauge" | "summary";

interface Family {
  readonly name: string;
  readonly type: MetricType;
  readonly help: string;
  /** Lines after the name: suffix, labels and value of each sample. */
  samples(): Iterable<Sample>;
}

interface Sample {
  /** "_sum" or "_count" of a summary. */
  readonly suffix?: string;
  readonly labels: Labels;
  readonly value: number;
}

/** Counts how often something has happened. */
export interface Counter {
  add(labels?: Labels): void;
}

/** Sums up how long things have taken, and how many there were. */
export interface Durations {
  add(seconds: number, labels?: Labels): void;
}

/**
 * Figures about this process, in the text format of Prometheus (exposition_formats.md, version 0.0.4).
 *
 * Names follow its conventions: what grows ends in `_total`, times are seconds, sizes bytes.
 */
export class Metrics {
  readonly #families: Family[] = [];

  counter(name: string, help: string): Counter {
    const tallies = new Tallies();
    this.#families.push({
      name,
      type: "counter",
      help,
      samples: () => tallies.values().map(({ labels, count }) => ({ labels, value: count })),
    });
    return { add: (labels = {}) => tallies.add(labels, 0) };
  }

  durations(name: string, help: string): Durations {
    const tallies = new Tallies();
    this.#families.push({
      name,
      type: "summary",
      help,
      samples: () =>
        tallies.values().flatMap(({ labels, sum, count }) => [
          { suffix: "_sum", labels, value: sum },
          { suffix: "_count", labels, value: count },
        ]),
    });
    return { add: (seconds, labels = {}) => tallies.add(labels, seconds) };
  }

  /** A figure that is asked for when somebody wants to see it. */
  gauge(name: string, help: string, read: () => number): void {
    this.#read(name, "gauge", help, read);
  }

  /** A total that somebody else keeps. */
  total(name: string, help: string, read: () => number): void {
    this.#read(name, "counter", help, read);
  }

  /** All figures as they are now. */
  render(): string {
    return this.#families.map(renderFamily).join("");
  }

  #read(name: string, type: MetricType, help: string, read: () => number): void {
    this.#families.push({ name, type, help, samples: () => [{ labels: {}, value: read() }] });
  }
}

interface Tally {
  readonly labels: Labels;
  sum: number;
  count: number;
}

/** What was added under each combination of labels. */
class Tallies {
  readonly #byLabels = new Map<string, Tally>();

  add(labels: Labels, amount: number): void {
    const key = JSON.stringify(labels);
    const tally = this.#byLabels.get(key) ?? { labels, sum: 0, count: 0 };
    tally.sum += amount;
    tally.count += 1;
    this.#byLabels.set(key, tally);
  }

  values(): IteratorObject<Tally> {
    return this.#byLabels.values();
  }
}

function renderFamily({ name, type, help, samples }: Family): string {
  const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
  for (const { suffix = "", labels, value } of samples()) {
    lines.push(`${name}${suffix}${renderLabels(labels)} ${value}`);
  }
  return `${lines.join("\n")}\n`;
}

function renderLabels(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return parts.length === 0 ? "" : `{${parts.join(",")}}`;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
