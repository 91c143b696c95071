import { InvalidArgumentError } from "@oci-worker/errdefs";
import { Fields, parseDocument } from "@oci-worker/oci/document";
import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";

/**
 * What somebody wants to do with a repository.
 *
 * `insecure-push`: whoever answers, as a client may wish it for itself; what the settings say of the registry does not count
 * then, and no credentials but the client's do.
 */
export const accesses = ["pull", "push", "insecure-push"] as const;

export type Access = (typeof accesses)[number];

/** What an authorization is for. */
export interface Grantee {
  readonly reference: Reference;
  readonly access: Access;
  /** Sessions whose credentials are tried first. */
  readonly sessionIDs: readonly string[];
  /**
   * What is read. A layer that is mounted outlives the sessions that mounted it, so any live session that uses the
   * image may help. Who wants to pull an image has to have the rights itself.
   */
  readonly subject: "layer" | "image";
}

const version = 1;

/** Longest handle that is read, in characters: 64 sessions with ids of a size that nobody uses. */
const maxHandleLength = 64 * 1024;
const maxSessionIDs = 64;

/**
 * A text that says all of `grantee`, so that it is good after a restart of the resolver too.
 *
 * It holds no secret and needs no seal: whoever may ask with a handle may also ask for any handle.
 */
export function formatHandle({ reference, access, sessionIDs, subject }: Grantee): string {
  const text = formatReference(reference);
  const sessions = sessionIDs.slice(0, maxSessionIDs);
  const document = { version, reference: text, access, sessions, subject };
  return Buffer.from(JSON.stringify(document)).toString("base64url");
}

/** @throws {InvalidArgumentError} if {@link formatHandle} has not made it. */
export function parseHandle(handle: string): Grantee {
  try {
    if (handle.length > maxHandleLength || !/^[A-Za-z0-9_-]+$/.test(handle)) {
      throw new InvalidArgumentError("Cannot read handle: it is not the text of one");
    }
    const fields = new Fields("handle", parseDocument("handle", Buffer.from(handle, "base64url")));
    if (fields.size("version") !== version) {
      throw fields.error("version", `want ${version}`);
    }
    const accessText = fields.requiredText("access");
    const access = accesses.find((each) => each === accessText);
    const subject = fields.requiredText("subject");
    if (access === undefined || (subject !== "layer" && subject !== "image")) {
      throw new InvalidArgumentError(
        `Cannot read handle: want access ${accesses.join(", ")}, and subject layer or image`,
      );
    }
    const sessionIDs = fields.texts("sessions") ?? [];
    if (sessionIDs.length > maxSessionIDs) {
      throw fields.error("sessions", `want at most ${maxSessionIDs}`);
    }
    const reference = fields.parsed("reference", parseReference);
    return { reference, access, sessionIDs, subject };
  } catch (cause) {
    if (cause instanceof InvalidArgumentError) {
      throw new InvalidArgumentError(`Cannot authorize: the handle is not one of ours: ${cause.message}`, {
        cause,
      });
    }
    throw cause;
  }
}
