/** A cell: its lines, from the top. */
export type Cell = readonly string[];

/** A table with one row of headings; a column is as wide as its widest line. */
export function table(headings: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const cells = [headings.map((heading): Cell => [heading]), ...rows];
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => widest(row[column]))));
  const lines = cells.flatMap((row) => {
    const height = Math.max(1, ...row.map((cell) => cell.length));
    return Array.from({ length: height }, (_, index) =>
      row
        .map((cell, column) => (cell[index] ?? "").padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
  });
  return `${lines.join("\n")}\n`;
}

function widest(cell: Cell | undefined): number {
  return Math.max(0, ...(cell ?? []).map((line) => line.length));
}
