import { errno } from "./errno.ts";
import { type FileSystem, later } from "./file-system.ts";
import { writeListing } from "./listing.ts";
import { negotiate } from "./negotiate.ts";
import { attrOut, entryOut, inHeader, Opcode, OpenFlag, outHeaderBytes } from "./protocol.ts";

/** The largest read that the kernel may ask for. */
const maxReadBytes = 1024 * 1024;

/** Room for the largest message either way: the headers and a page beside the content. */
const messageBytes = maxReadBytes + 4096;

/** Length of the reply to what wants none. */
const noReply = 0;

/** Operations that the kernel never tries again after it has been told so. */
const unknown = errno.ENOSYS;

/** What would change something. */
const changes: ReadonlySet<number> = new Set([
  Opcode.setattr,
  Opcode.symlink,
  Opcode.mknod,
  Opcode.mkdir,
  Opcode.unlink,
  Opcode.rmdir,
  Opcode.rename,
  Opcode.rename2,
  Opcode.link,
  Opcode.write,
  Opcode.setxattr,
  Opcode.removexattr,
  Opcode.create,
  Opcode.fallocate,
]);

/** Where the parts of a request are behind its header. */
const body = inHeader.bytes;

/**
 * Answers the kernel's requests to a file system: takes what is in {@link request} and puts the reply into {@link reply}.
 *
 * Both are made once, and nothing is allocated for what programs do most, so that a request costs a few microseconds.
 */
export class RequestHandler {
  readonly request = Buffer.from(new ArrayBuffer(messageBytes));
  readonly reply = Buffer.from(new ArrayBuffer(messageBytes));
  readonly #in = new Uint32Array(this.request.buffer);
  readonly #out = new Uint32Array(this.reply.buffer);
  readonly #fileSystem: FileSystem;

  constructor(fileSystem: FileSystem) {
    this.#fileSystem = fileSystem;
  }

  /**
   * Answers the request of `length` bytes in {@link request}.
   *
   * @returns the length of the reply in {@link reply}; 0 if there is none to send.
   */
  handle(length: number): number {
    const opcode = this.#in[inHeader.opcode / 4] ?? 0;
    if (length < body) {
      return this.fail(errno.EINVAL);
    }
    switch (opcode) {
      case Opcode.read:
        return this.#read();
      case Opcode.lookup:
        return this.#lookup(length);
      case Opcode.getattr:
        return this.#getattr();
      case Opcode.open:
        // Every kernel since 3.15 takes this for leave to open all files without us (FUSE_NO_OPEN_SUPPORT).
        return this.fail(unknown);
      case Opcode.readdir:
      case Opcode.readdirplus:
        return this.#readdir(opcode === Opcode.readdirplus);
      case Opcode.readlink:
        return this.#result(this.#fileSystem.readLink(this.#node, this.reply, outHeaderBytes));
      case Opcode.getxattr:
        return this.#getxattr(length);
      case Opcode.listxattr:
        return this.#listxattr();
      case Opcode.opendir:
        return this.#openedDirectory();
      case Opcode.releasedir:
      case Opcode.destroy:
        return this.#done(0);
      case Opcode.statfs:
        return this.#statfs();
      case Opcode.init:
        return this.#done(negotiate(this.request, this.reply));
      case Opcode.interrupt:
        this.#fileSystem.interrupt(this.request.readBigUInt64LE(body));
        return noReply;
      case Opcode.forget:
      case Opcode.batchForget:
        // Nodes are numbers that mean something without us: there is nothing to forget.
        return noReply;
      default:
        return this.fail(changes.has(opcode) ? errno.EROFS : unknown);
    }
  }

  /** Node numbers are below 2^53. */
  get #node(): number {
    return (this.#in[4] ?? 0) + (this.#in[5] ?? 0) * 2 ** 32;
  }

  #read(): number {
    const offset = (this.#in[12] ?? 0) + (this.#in[13] ?? 0) * 2 ** 32;
    const size = Math.min(this.#in[14] ?? 0, maxReadBytes);
    const unique = this.request.readBigUInt64LE(inHeader.unique);
    const read = this.#fileSystem.read(this.#node, offset, size, this.reply, outHeaderBytes, unique);
    return read === later ? noReply : this.#result(read);
  }

  #lookup(length: number): number {
    // Behind the name there is a NUL.
    const node = this.#fileSystem.lookup(this.#node, this.request, body, length - 1);
    if (node < 0) {
      return this.fail(-node);
    }
    if (node === 0 && !this.#fileSystem.cache.absent) {
      return this.fail(errno.ENOENT);
    }
    // Node 0 says that there is no such name, and for how long that holds.
    return this.#writeEntry(node, outHeaderBytes) ? this.#done(entryOut.bytes) : this.fail(errno.ENOENT);
  }

  #writeEntry(node: number, at: number): boolean {
    const { cache } = this.#fileSystem;
    this.#out.fill(0, at / 4, (at + entryOut.bytes) / 4);
    if (node !== 0 && !this.#fileSystem.attributes(node, this.reply, at + entryOut.attr)) {
      return false;
    }
    const word = at / 4;
    this.#out[word] = node % 2 ** 32;
    this.#out[word + 1] = Math.floor(node / 2 ** 32);
    this.#out[word + entryOut.entryValid / 4] = cache.seconds;
    this.#out[word + entryOut.attrValid / 4] = cache.seconds;
    return true;
  }

  #getattr(): number {
    this.#out.fill(0, outHeaderBytes / 4, (outHeaderBytes + attrOut.bytes) / 4);
    if (!this.#fileSystem.attributes(this.#node, this.reply, outHeaderBytes + attrOut.attr)) {
      return this.fail(errno.ENOENT);
    }
    this.#out[(outHeaderBytes + attrOut.attrValid) / 4] = this.#fileSystem.cache.seconds;
    return this.#done(attrOut.bytes);
  }

  /** struct fuse_open_out: a handle, which we do not use, and flags. */
  #openedDirectory(): number {
    this.#out.fill(0, 4, 8);
    this.#out[6] = OpenFlag.keepCache | OpenFlag.cacheDir;
    return this.#done(16);
  }

  #readdir(withEntries: boolean): number {
    const from = (this.#in[12] ?? 0) + (this.#in[13] ?? 0) * 2 ** 32;
    const size = Math.min(this.#in[14] ?? 0, maxReadBytes);
    const names = this.#fileSystem.list(this.#node, from);
    if (names === undefined) {
      return this.fail(errno.ENOENT);
    }
    const writeEntry = withEntries ? (node: number, at: number) => this.#writeEntry(node, at) : undefined;
    return this.#done(writeListing(names, { from, size, reply: this.reply, at: outHeaderBytes, writeEntry }));
  }

  #getxattr(length: number): number {
    const name = this.request.toString("utf8", body + 8, length - 1);
    const value = this.#fileSystem.xattr(this.#node, name);
    return value === undefined ? this.fail(errno.ENODATA) : this.#xattrResult(value);
  }

  #listxattr(): number {
    const names = this.#fileSystem.xattrNames(this.#node);
    return this.#xattrResult(Buffer.from(names.map((name) => `${name}\0`).join("")));
  }

  /** Asked with size 0, the answer is how much room is wanted. */
  #xattrResult(value: Uint8Array): number {
    const size = this.#in[body / 4] ?? 0;
    if (size === 0) {
      this.#out[4] = value.length;
      this.#out[5] = 0;
      return this.#done(8);
    }
    if (size < value.length) {
      return this.fail(errno.ERANGE);
    }
    this.reply.set(value, outHeaderBytes);
    return this.#done(value.length);
  }

  /** struct fuse_kstatfs: nothing is free; blocks of 4 KiB, names of 255 bytes. */
  #statfs(): number {
    this.#out.fill(0, 4, 24);
    this.#out[14] = 4096;
    this.#out[15] = 255;
    this.#out[16] = 4096;
    return this.#done(80);
  }

  #result(value: number): number {
    return value < 0 ? this.fail(-value) : this.#done(value);
  }

  #done(bodyBytes: number): number {
    return this.#headed(bodyBytes, 0);
  }

  /** Puts a failure of the request that is in {@link request} into {@link reply}. @returns its length. */
  fail(code: number): number {
    return this.#headed(0, -code);
  }

  #headed(bodyBytes: number, result: number): number {
    this.#out[0] = outHeaderBytes + bodyBytes;
    this.#out[1] = result;
    // Half of the unique number each: it is echoed, whatever it means to the kernel.
    this.#out[2] = this.#in[2] ?? 0;
    this.#out[3] = this.#in[3] ?? 0;
    return outHeaderBytes + bodyBytes;
  }
}
