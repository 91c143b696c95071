/** What this program asks of a stream that it writes to: a terminal, a pipe or a file. */
export interface OutputStream {
  readonly isTTY?: boolean;
  /** Size of a terminal, in characters. */
  readonly columns?: number;
  readonly rows?: number;
  /** @returns false if the rest should wait for `drain`. */
  write(data: string | Uint8Array): boolean;
  on(event: "resize" | "drain" | "error", listener: (error: Error) => void): unknown;
  off(event: "resize" | "drain" | "error", listener: (error: Error) => void): unknown;
}

/** What this program asks of the process that it is. */
export interface Terminal {
  readonly stdin: AsyncIterable<Uint8Array | string> & { readonly isTTY?: boolean };
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: NodeJS.ProcessEnv;
  on(event: NodeJS.Signals | "exit", listener: () => void): unknown;
  off(event: NodeJS.Signals | "exit", listener: () => void): unknown;
}
