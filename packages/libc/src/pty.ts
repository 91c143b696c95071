import { closeSync, constants, openSync } from "node:fs";
import { bind, check } from "./libc.ts";

// Requests of ioctl(2) for terminals (asm-generic/ioctls.h; ioctl_tty(2)).
const TCGETS = 0x5401;
const TCSETS = 0x5402;
const TIOCSWINSZ = 0x5414;
const TIOCGPTPEER = 0x5441;
const TIOCSPTLCK = 0x40045431;

/** O_CLOEXEC of open(2), which Node does not export. */
const O_CLOEXEC = 0o2000000;

// struct termios of the kernel (asm-generic/termbits.h): four words of flags, the line discipline, 19 control characters.
const termiosBytes = 36;
const [iflagAt, oflagAt, cflagAt, lflagAt] = [0, 4, 8, 12];

// What cfmakeraw(3) clears, and sets: bytes pass as they are, in both directions, and none of them means anything.
const rawInputOff = 0o2753; // IGNBRK BRKINT PARMRK ISTRIP INLCR IGNCR ICRNL IXON
const rawOutputOff = 0o1; // OPOST
const rawLocalOff = 0o100113; // ECHO ECHONL ICANON ISIG IEXTEN
const rawControlOff = 0o460; // CSIZE PARENB
const rawControlOn = 0o60; // CS8

const libc = {
  ioctlNumber: bind("int ioctl(int fd, unsigned long request, unsigned long argument)"),
  ioctlBuffer: bind("int ioctl(int fd, unsigned long request, void *argument)"),
};

/** Lines and columns of characters. */
export interface WindowSize {
  readonly rows: number;
  readonly columns: number;
}

/**
 * A new pair of pseudoterminals (pty(7)), raw: what is written to one can be read from the other as it is. No program that
 * is started later inherits either. The master does not block. The caller closes both.
 */
export function openPty(): { readonly master: number; readonly slave: number } {
  const master = openSync("/dev/ptmx", constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  try {
    check("ioctl", libc.ioctlBuffer(master, TIOCSPTLCK, Buffer.alloc(4)), "/dev/ptmx");
    makeRaw(master);
    const flags = constants.O_RDWR | constants.O_NOCTTY | O_CLOEXEC;
    return { master, slave: check("ioctl", libc.ioctlNumber(master, TIOCGPTPEER, flags), "/dev/ptmx") };
  } catch (error) {
    closeSync(master);
    throw error;
  }
}

/** ioctl(2) with TIOCSWINSZ: the terminal `fd`, either end of it, has that size from now on. Its processes are told if it is another. */
export function setWindowSize(fd: number, { rows, columns }: WindowSize): void {
  // struct winsize: rows, columns, and the same in pixels, which nobody knows.
  const size = Buffer.alloc(8);
  size.writeUInt16LE(rows, 0);
  size.writeUInt16LE(columns, 2);
  check("ioctl", libc.ioctlBuffer(fd, TIOCSWINSZ, size));
}

/** What cfmakeraw(3) and tcsetattr(3) do. */
function makeRaw(fd: number): void {
  const termios = Buffer.alloc(termiosBytes);
  check("ioctl", libc.ioctlBuffer(fd, TCGETS, termios));
  change(termios, iflagAt, rawInputOff, 0);
  change(termios, oflagAt, rawOutputOff, 0);
  change(termios, cflagAt, rawControlOff, rawControlOn);
  change(termios, lflagAt, rawLocalOff, 0);
  check("ioctl", libc.ioctlBuffer(fd, TCSETS, termios));
}

function change(termios: Buffer, at: number, off: number, on: number): void {
  termios.writeUInt32LE(((termios.readUInt32LE(at) & ~off) | on) >>> 0, at);
}
