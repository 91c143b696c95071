import { bind, check } from "./libc.ts";

/** _LINUX_CAPABILITY_VERSION_3 of capget(2): two words of 32 bits for each set. */
const capabilityVersion = 0x20080522;

/** Where the words of the effective and of the permitted set stand in two struct __user_cap_data_struct (linux/capability.h). */
const [effectiveAt, permittedAt, capabilityBytes] = [[0, 12], [4, 16], 24] as const;

const libc = {
  capget: bind("int capget(void *header, void *data)"),
  capset: bind("int capset(void *header, const void *data)"),
  setfsgid: bind("int setfsgid(unsigned int gid)"),
  setfsuid: bind("int setfsuid(unsigned int uid)"),
};

/** An id that setfsuid(2) does not set; what it returns is the id that holds. */
const noID = 0xffff_ffff;

/**
 * Does `act` as the user `uid` and the group `gid` of the host, as far as files are concerned, with all capabilities that this
 * process has: setfsuid(2) and setfsgid(2) of the calling thread. What it makes belongs to them.
 *
 * @param act must be synchronous: other threads, such as those of asynchronous file calls, stay who they are.
 * @throws {SystemError} if this process may not.
 */
export function asFileOwner<T>(uid: number, gid: number, act: () => T): T {
  const [uidBefore, gidBefore] = [fileUser(), fileGroup()];
  try {
    libc.setfsgid(gid);
    libc.setfsuid(uid);
    if (fileUser() !== uid || fileGroup() !== gid) {
      throw new Error(`Cannot make files as user ${uid} and group ${gid}: want root`);
    }
    // Who has been root loses with it what lets root override permissions (capabilities(7), "Effect of user ID changes").
    raiseCapabilities();
    return act();
  } finally {
    libc.setfsuid(uidBefore);
    libc.setfsgid(gidBefore);
  }
}

/** Makes all permitted capabilities of the calling thread effective: capset(2). */
function raiseCapabilities(): void {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(capabilityVersion, 0);
  const data = Buffer.alloc(capabilityBytes);
  check("capget", libc.capget(header, data));
  for (const [word, at] of effectiveAt.entries()) {
    data.writeUInt32LE(data.readUInt32LE(permittedAt[word]), at);
  }
  check("capset", libc.capset(header, data));
}

function fileUser(): number {
  return Number(libc.setfsuid(noID)) >>> 0;
}

function fileGroup(): number {
  return Number(libc.setfsgid(noID)) >>> 0;
}
