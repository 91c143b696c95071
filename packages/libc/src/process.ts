import { bind, check } from "./libc.ts";

/** CLONE_FS of unshare(2): a root and a working directory of the calling thread's own. */
const CLONE_FS = 0x200;

/** PR_SET_PDEATHSIG of prctl(2). */
const PR_SET_PDEATHSIG = 1;

const libc = {
  chroot: bind("int chroot(const char *path)"),
  chdir: bind("int chdir(const char *path)"),
  prctl: bind("int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)"),
  unshare: bind("int unshare(int flags)"),
};

/**
 * Makes `root` the root directory of the calling thread alone: unshare(CLONE_FS), chroot(2), chdir(2).
 *
 * From then on every path and every symbolic link that this thread's synchronous calls follow stays inside `root`,
 * because the kernel resolves them so. For good: call it in a worker thread that does nothing else afterwards. Modules
 * must be loaded before. The thread pool must be running before (any asynchronous file call starts it), else its
 * threads would inherit this root.
 */
export function confineThread(root: string): void {
  check("unshare", libc.unshare(CLONE_FS));
  check("chroot", libc.chroot(root), root);
  check("chdir", libc.chdir("/"), "/");
}

/** Has the kernel send `signal` to this process when its parent dies: prctl(PR_SET_PDEATHSIG). */
export function signalOnParentDeath(signal: number): void {
  check("prctl", libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0));
}
