import { closeSync, openSync } from "node:fs";
import { bind, check } from "./libc.ts";

/** CLONE_NEWNET of setns(2). */
const CLONE_NEWNET = 0x40000000;

// Of socket(2) (bits/socket.h).
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

// Of netdevice(7): struct ifreq is a name of 16 bytes and, for these two, flags of 2.
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const ifreqBytes = 40;
const ifreqFlagsOffset = 16;
const IFF_UP = 1;

/** struct sockaddr_in: family, port, address. */
const sockaddrInBytes = 16;

const libc = {
  bind: bind("int bind(int fd, const void *address, uint32_t addressSize)"),
  ioctl: bind("int ioctl(int fd, unsigned long request, void *argument)"),
  setns: bind("int setns(int fd, int kind)"),
  socket: bind("int socket(int domain, int type, int protocol)"),
};

/**
 * Does `work`, which must be synchronous, with the calling thread in the network name space that is pinned at `path`:
 * setns(2). Sockets that it makes are of that for good, whoever uses them afterwards.
 *
 * @throws {SystemError} EPERM if this process may not enter it, or could not come back.
 */
export function inNetworkNamespace<T>(path: string, work: () => T): T {
  const own = openSync("/proc/thread-self/ns/net", "r");
  try {
    const other = openSync(path, "r");
    try {
      // To where it is already: whoever may not do that would find no way back.
      check("setns", libc.setns(own, CLONE_NEWNET));
      check("setns", libc.setns(other, CLONE_NEWNET), path);
    } finally {
      closeSync(other);
    }
    try {
      return work();
    } finally {
      if (Number(libc.setns(own, CLONE_NEWNET)) < 0) {
        // What this thread did from now on would happen in the network of somebody else.
        process.abort();
      }
    }
  } finally {
    closeSync(own);
  }
}

/**
 * Has the calling thread be in the network name space that is pinned at `path` from now on: setns(2). Call it in a worker
 * thread that ends with what it is for: there may be no way back.
 */
export function enterNetworkNamespace(path: string): void {
  const other = openSync(path, "r");
  try {
    check("setns", libc.setns(other, CLONE_NEWNET), path);
  } finally {
    closeSync(other);
  }
}

/**
 * Whether the calling thread could come back from another network name space. A process that is root in a user namespace
 * alone cannot where its network belongs to the one above.
 */
export function canLeaveNetworkNamespace(): boolean {
  const own = openSync("/proc/thread-self/ns/net", "r");
  try {
    check("setns", libc.setns(own, CLONE_NEWNET));
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EPERM") {
      return false;
    }
    throw error;
  } finally {
    closeSync(own);
  }
}

/**
 * socket(2): a TCP socket of the name space that the thread is in, as Node takes them (non-blocking, close-on-exec). The
 * caller closes it.
 */
export function openTcpSocket(family: 4 | 6): number {
  const domain = family === 4 ? AF_INET : AF_INET6;
  return check("socket", libc.socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/** bind(2) of a socket of IPv4 to 127.0.0.1 and a port that is free. */
export function bindToLoopback(fd: number): void {
  const address = Buffer.alloc(sockaddrInBytes);
  address.writeUInt16LE(AF_INET, 0);
  address.set([127, 0, 0, 1], 4);
  check("bind", libc.bind(fd, address, address.length));
}

/** SIOCSIFFLAGS of netdevice(7): turns the loopback device on, in the name space that the socket `fd` is of. */
export function turnLoopbackOn(fd: number): void {
  const request = Buffer.alloc(ifreqBytes);
  request.write("lo");
  check("ioctl", libc.ioctl(fd, SIOCGIFFLAGS, request));
  request.writeUInt16LE(request.readUInt16LE(ifreqFlagsOffset) | IFF_UP, ifreqFlagsOffset);
  check("ioctl", libc.ioctl(fd, SIOCSIFFLAGS, request));
}
