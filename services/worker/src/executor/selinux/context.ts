import { InvalidArgumentError } from "@oci-worker/errdefs";

/** A security context of SELinux (selinux(8)), which its text is called a label. */
export interface SelinuxContext {
  readonly user: string;
  readonly role: string;
  readonly type: string;
  /** Sensitivity and categories, such as `s0:c1,c2`; empty where the policy has none. */
  readonly level: string;
}

/** No quotation marks, for one: labels become mount options within them. */
const form = /^([\w.-]{1,255}):([\w.-]{1,255}):([\w.-]{1,255})(?::([\w.:,-]{1,1024}))?$/;

/**
 * Reads a label.
 *
 * @param whose says where it is from, for people.
 * @throws {InvalidArgumentError} if it is none.
 */
export function parseLabel(text: string, whose: string): SelinuxContext {
  const [label, user = "", role = "", type = "", level = ""] = form.exec(text) ?? [];
  if (label === undefined) {
    throw new InvalidArgumentError(
      `Cannot use ${JSON.stringify(text.slice(0, 200))} as ${whose}: want USER:ROLE:TYPE or USER:ROLE:TYPE:LEVEL`,
    );
  }
  return { user, role, type, level };
}

/** The label of a context, at `level` if it has any. */
export function labelAt({ user, role, type, level }: SelinuxContext, at: string): string {
  return [user, role, type, ...(level === "" ? [] : [at])].join(":");
}
