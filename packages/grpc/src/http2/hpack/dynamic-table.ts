/** What an entry takes besides its name and value (RFC 7541, section 4.1). */
export const entryOverheadBytes = 32;

/** Entries that were pushed out are cleared away when so many have gathered. */
const maxDeadEntries = 128;

/** The fields that the peer has sent and may refer to, the latest first (RFC 7541, section 2.3.2). */
export class DynamicTable {
  #names: string[] = [];
  #values: string[] = [];
  /** Position of the oldest entry; those before have been pushed out. */
  #oldest = 0;
  #bytes = 0;
  #capacity: number;
  #version = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Another number whenever an index may mean something else than before. */
  get version(): number {
    return this.#version;
  }

  /** Where in the table the entry `index` is, 0 being the latest; undefined if there is none. */
  find(index: number): number | undefined {
    const position = this.#names.length - 1 - index;
    return position >= this.#oldest ? position : undefined;
  }

  name(position: number): string {
    return this.#names[position] ?? "";
  }

  value(position: number): string {
    return this.#values[position] ?? "";
  }

  /** Adds an entry, and pushes out so many old ones as it needs room of. One that is larger than the table empties it. */
  insert(name: string, value: string): void {
    const bytes = name.length + value.length + entryOverheadBytes;
    this.#version += 1;
    this.#shrinkTo(this.#capacity - bytes);
    if (bytes <= this.#capacity) {
      this.#names.push(name);
      this.#values.push(value);
      this.#bytes += bytes;
    }
  }

  resize(capacity: number): void {
    this.#version += 1;
    this.#capacity = capacity;
    this.#shrinkTo(capacity);
  }

  #shrinkTo(bytes: number): void {
    while (this.#bytes > bytes && this.#oldest < this.#names.length) {
      const { length: nameBytes } = this.name(this.#oldest);
      this.#bytes -= nameBytes + this.value(this.#oldest).length + entryOverheadBytes;
      this.#oldest += 1;
    }
    if (this.#oldest >= maxDeadEntries) {
      this.#names = this.#names.slice(this.#oldest);
      this.#values = this.#values.slice(this.#oldest);
      this.#oldest = 0;
    }
  }
}
