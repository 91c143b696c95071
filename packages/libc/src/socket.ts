import { bind, check } from "./libc.ts";

/** Who is at the other end of a unix socket, as the kernel saw them connect. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** What a descriptor is, if it is a socket. */
export interface SocketKind {
  readonly isUnix: boolean;
  /** SOCK_STREAM and not datagrams. */
  readonly isStream: boolean;
  /** Whether listen(2) has been called on it. */
  readonly isListening: boolean;
  /** What a unix socket is bound to; a leading "@" means the abstract name space, an empty text nothing. */
  readonly path: string;
}

// Constants of getsockopt(2), socket(2), sendto(2) and fcntl(2) (asm-generic/socket.h, bits/socket.h, bits/fcntl.h).
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_PEERCRED = 17;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const SOCK_STREAM = 1;
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;

/** sizeof(struct ucred), sizeof(struct sockaddr_un) and the offset of sun_path in that. */
const ucredBytes = 12;
const sockaddrUnBytes = 110;
const sunPathOffset = 2;

const libc = {
  close: bind("int close(int fd)"),
  fcntl: bind("int fcntl(int fd, int command, int argument)"),
  getsockname: bind("int getsockname(int fd, void *address, void *length)"),
  getsockopt: bind("int getsockopt(int fd, int level, int name, void *value, void *length)"),
  sendto: bind(
    "ssize_t sendto(int fd, const void *data, size_t size, int flags, const void *address, uint32_t addressSize)",
  ),
  socket: bind("int socket(int domain, int type, int protocol)"),
};

/** SO_PEERCRED of the connected unix socket `fd` (unix(7)). */
export function peerCredentials(fd: number): PeerCredentials {
  const value = Buffer.alloc(ucredBytes);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(ucredBytes);
  check("getsockopt", libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, length));
  return { pid: value.readInt32LE(0), uid: value.readUInt32LE(4), gid: value.readUInt32LE(8) };
}

/**
 * What the socket `fd` is: getsockopt(2) and getsockname(2).
 *
 * @throws {SystemError} ENOTSOCK if it is none, EBADF if it is not open.
 */
export function socketKind(fd: number): SocketKind {
  const isUnix = intOption(fd, SO_DOMAIN) === AF_UNIX;
  return {
    isUnix,
    isStream: intOption(fd, SO_TYPE) === SOCK_STREAM,
    isListening: intOption(fd, SO_ACCEPTCONN) !== 0,
    path: isUnix ? boundPath(fd) : "",
  };
}

/** FD_CLOEXEC of fcntl(2): programs that this process starts do not get `fd`. */
export function closeOnExec(fd: number): void {
  check("fcntl", libc.fcntl(fd, F_SETFD, FD_CLOEXEC));
}

/** Sends `data` as one datagram to the unix socket `path`; a leading "@" means the abstract name space. */
export function sendUnixDatagram(path: string, data: Uint8Array): void {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : path);
  const address = Buffer.alloc(sunPathOffset + name.length);
  address.writeUInt16LE(AF_UNIX);
  name.copy(address, sunPathOffset);
  const fd = check("socket", libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  try {
    check("sendto", libc.sendto(fd, data, data.length, MSG_NOSIGNAL, address, address.length), path);
  } finally {
    libc.close(fd);
  }
}

function intOption(fd: number, name: number): number {
  const value = Buffer.alloc(4);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(value.length);
  check("getsockopt", libc.getsockopt(fd, SOL_SOCKET, name, value, length));
  return value.readInt32LE(0);
}

function boundPath(fd: number): string {
  const address = Buffer.alloc(sockaddrUnBytes);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length);
  check("getsockname", libc.getsockname(fd, address, length));
  const name = address.toString("utf8", sunPathOffset, length.readUInt32LE(0));
  // A path ends with a NUL, which is counted; an abstract name begins with one.
  return name.startsWith("\0") ? `@${name.slice(1)}` : name.replace(/\0+$/, "");
}
