// The kernel's side of FUSE: Linux, include/uapi/linux/fuse.h. Names are the kernel's, without FUSE_. Offsets are bytes.

/** The operations that we tell apart. */
export const Opcode = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  readlink: 5,
  symlink: 6,
  mknod: 8,
  mkdir: 9,
  unlink: 10,
  rmdir: 11,
  rename: 12,
  link: 13,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  setxattr: 21,
  getxattr: 22,
  listxattr: 23,
  removexattr: 24,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  create: 35,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
  fallocate: 43,
  readdirplus: 44,
  rename2: 45,
} as const;

/** Flags of INIT; those of the second word are numbered from 0 in it. */
export const InitFlag = {
  asyncRead: 1 << 0,
  doReaddirplus: 1 << 13,
  asyncDio: 1 << 15,
  parallelDirops: 1 << 18,
  abortError: 1 << 21,
  maxPages: 1 << 22,
  cacheSymlinks: 1 << 23,
  initExt: 1 << 30,
} as const;
export const InitFlag2 = { hasResend: 1 << 7, allowIdMap: 1 << 8 } as const;

/** What OPENDIR allows the kernel. */
export const OpenFlag = { keepCache: 1 << 1, cacheDir: 1 << 3 } as const;

/** The version that this is written for; the kernel knows others and takes the lower one. */
export const major = 7;
export const minor = 45;

/** struct fuse_in_header. */
export const inHeader = { bytes: 40, opcode: 4, unique: 8, node: 16 } as const;

/** struct fuse_out_header: length, negated errno, unique. */
export const outHeaderBytes = 16;

/** struct fuse_attr. */
export const attr = {
  bytes: 88,
  ino: 0,
  size: 8,
  blocks: 16,
  atime: 24,
  mtime: 32,
  ctime: 40,
  atimeNs: 48,
  mtimeNs: 52,
  ctimeNs: 56,
  mode: 60,
  nlink: 64,
  uid: 68,
  gid: 72,
  rdev: 76,
  blockSize: 80,
} as const;

/** struct fuse_entry_out: node, generation, two times of validity, then the attributes. */
export const entryOut = { bytes: 128, node: 0, entryValid: 16, attrValid: 24, attr: 40 } as const;

/** struct fuse_attr_out. */
export const attrOut = { bytes: 104, attrValid: 0, attr: 16 } as const;

/** struct fuse_dirent, without the name. */
export const dirent = { bytes: 24, ino: 0, next: 8, nameLength: 16, type: 20, alignment: 8 } as const;
