type Column = Uint8Array | Uint16Array | Int32Array | Uint32Array | Float64Array;

/** `column` itself if it has room for `length` values, else one with its values and as much room again. */
export function withRoom<T extends Column>(column: T, length: number): T {
  if (length <= column.length) {
    return column;
  }
  const Kind = column.constructor as new (length: number) => T;
  const larger = new Kind(Math.max(length, 2 * column.length));
  larger.set(column);
  return larger;
}
