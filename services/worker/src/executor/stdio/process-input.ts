import { Handoff } from "@oci-worker/flights/handoff";

/**
 * As much may wait for a process that does not read, in bytes. Behind it whoever writes has to wait, and with them what they
 * want to say besides: enough that a signal still comes through after what a person has typed or pasted.
 */
const maxWaitingBytes = 256 * 1024;

/** What a process is given to read. It finds the end of it behind what has been put in. */
export type ProcessInput = Handoff<Uint8Array>;

export function processInput(): ProcessInput {
  return new Handoff({ limit: maxWaitingBytes, sizeOf: ({ length }) => length });
}
