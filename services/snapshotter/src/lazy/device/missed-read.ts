/** A read of something that is not there yet. Whoever fetches it answers it. */
export interface MissedRead {
  readonly layer: number;
  readonly offset: number;
  readonly size: number;
  /** Names the request for the kernel. */
  readonly unique: bigint;
}
