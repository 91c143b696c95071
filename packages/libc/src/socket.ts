import { bind, check } from "./libc.ts";

/** Who is at the other end of a unix socket, as the kernel saw them connect. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

// Constants of getsockopt(2), socket(2) and sendto(2) (asm-generic/socket.h, bits/socket.h).
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;

/** sizeof(struct ucred) and the offset of sun_path in struct sockaddr_un. */
const ucredBytes = 12;
const sunPathOffset = 2;

const libc = {
  close: bind("int close(int fd)"),
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
