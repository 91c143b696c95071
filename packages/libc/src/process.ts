import { bind, check } from "./libc.ts";

/** CLONE_FS of unshare(2): a root and a working directory of the calling thread's own. */
const CLONE_FS = 0x200;

// Operations of prctl(2).
const PR_SET_PDEATHSIG = 1;
const PR_GET_DUMPABLE = 3;
const PR_SET_DUMPABLE = 4;

/** RLIMIT_CORE of setrlimit(2). */
const RLIMIT_CORE = 4;

const libc = {
  chroot: bind("int chroot(const char *path)"),
  chdir: bind("int chdir(const char *path)"),
  prctl: bind("int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)"),
  setrlimit: bind("int setrlimit(int resource, const void *limit)"),
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

/**
 * Keeps the memory of this process out of core files, and from other processes of its user, for good: setrlimit(2) of
 * RLIMIT_CORE to nothing, which programs that it starts inherit and cannot raise again unless they are privileged, and
 * prctl(PR_SET_DUMPABLE), which they do not, but which holds also where cores are piped to a program (core(5)).
 */
export function forbidCoreDumps(): void {
  // struct rlimit: the soft and the hard limit, both of them zero.
  check("setrlimit", libc.setrlimit(RLIMIT_CORE, Buffer.alloc(16)));
  check("prctl", libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
}

/** Whether this process may leave a core file: prctl(PR_GET_DUMPABLE). */
export function isDumpable(): boolean {
  return check("prctl", libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)) !== 0;
}

/** ioprio_set(2) has no function in the C library, and a number of its own on each architecture (asm/unistd.h). */
const SYS_ioprio_set = process.arch === "arm64" ? 30 : 251;
const IOPRIO_WHO_PROCESS = 1;
/** The class is in the upper bits (linux/ioprio.h): as the thread's nice value says, or only when nobody else wants the disk. */
const ioPriorities = { none: 0 << 13, idle: 3 << 13 } as const;

const ioprioSet = bind("long syscall(long number, int which, int who, int priority)");

/**
 * ioprio_set(2) of the calling thread: how its reads and writes stand to those of others. Heeded by the I/O schedulers
 * BFQ and, in part, mq-deadline; the others treat all alike.
 */
export function setIOPriority(priority: keyof typeof ioPriorities): void {
  check("ioprio_set", ioprioSet(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, ioPriorities[priority]));
}
