import { closeSync, constants, fstatSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ResourceExhaustedError } from "@oci-worker/errdefs";
import { setTimesOf } from "@oci-worker/libc/file";
import { lookUp } from "./lookup.ts";
import type { SpecMount } from "./oci-spec.ts";
import { Rootfs } from "./rootfs.ts";

/** Where distributions keep the certificates that programs trust, all of them in one file. */
const bundlePaths = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/tls/cacert.pem",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

const maxBundleBytes = 10 * 1024 * 1024;

// Upstream's marks, by which people look for it.
const beginMark = "\n# buildkit proxy CA begin\n";
const endMark = "# buildkit proxy CA end\n";

/** A file as it was. */
interface Original {
  readonly content: Buffer;
  readonly added: Buffer;
  readonly accessedNs: bigint;
  readonly modifiedNs: bigint;
}

/**
 * Lets the programs of a step trust an authority for as long as it runs: it is added to the files that they read in its
 * root file system, and taken out of them afterwards. What the step has not changed itself is then as it was, so that none of
 * it is in the result. Images without such a file get none.
 *
 * The files are written to in place. A mount on one would be in the way of a step that replaces it, as packages of
 * certificates do when they are installed.
 */
export class TrustBundles implements Disposable {
  readonly #rootfsPath: string;
  readonly #block: Buffer;
  readonly #originals = new Map<string, Original>();

  /**
   * @param authority PEM.
   * @throws {ResourceExhaustedError} if one of the files is larger than 10 MiB.
   */
  constructor(rootfsPath: string, authority: string) {
    this.#rootfsPath = rootfsPath;
    this.#block = blockOf(authority);
    try {
      this.#add();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Call it when every process of the step has ended. */
  [Symbol.dispose](): void {
    using rootfs = new Rootfs(this.#rootfsPath);
    for (const path of bundlePaths) {
      withBundle(rootfs, path, constants.O_RDWR, (fd) => this.#takeOut(fd, path));
    }
  }

  #add(): void {
    using rootfs = new Rootfs(this.#rootfsPath);
    for (const path of bundlePaths) {
      withBundle(rootfs, path, constants.O_RDWR, (fd) => {
        const content = readBundle(fd, path);
        if (!content.includes(this.#block)) {
          const { atimeNs, mtimeNs } = fstatSync(fd, { bigint: true });
          const added = Buffer.concat([content, this.#block]);
          this.#originals.set(path, { content, added, accessedNs: atimeNs, modifiedNs: mtimeNs });
          write(fd, added);
        }
      });
    }
  }

  #takeOut(fd: number, path: string): void {
    const content = readBundle(fd, path);
    const original = this.#originals.get(path);
    if (original?.added.equals(content) === true) {
      write(fd, original.content);
      setTimesOf(fd, original.accessedNs, original.modifiedNs);
      return;
    }
    const cleaned = without(content, this.#block);
    if (cleaned.length < content.length) {
      const { atimeNs, mtimeNs } = fstatSync(fd, { bigint: true });
      write(fd, cleaned);
      setTimesOf(fd, atimeNs, mtimeNs);
    }
  }
}

/**
 * As {@link TrustBundles}, for a root file system that can be read only: copies of the files with the authority in them, in
 * `directory`, to be mounted over them.
 */
export async function trustMounts(
  rootfsPath: string,
  authority: string,
  directory: string,
): Promise<SpecMount[]> {
  const mounts = new Map<string, SpecMount>();
  using rootfs = new Rootfs(rootfsPath);
  for (const [index, path] of bundlePaths.entries()) {
    const content = withBundle(rootfs, path, constants.O_RDONLY, (fd) => readBundle(fd, path));
    if (content === undefined) {
      continue;
    }
    // Where links lead: a mount is on what is there.
    const destination = `/${lookUp(rootfsPath, path).components.join("/")}`;
    if (!mounts.has(destination)) {
      const source = join(directory, `trust-${index}`);
      await writeFile(source, Buffer.concat([content, blockOf(authority)]), { mode: 0o644 });
      mounts.set(destination, { destination, type: "bind", source, options: ["ro", "rbind"] });
    }
  }
  return [...mounts.values()];
}

function blockOf(authority: string): Buffer {
  return Buffer.from(`${beginMark}${authority}${endMark}`);
}

/** What `use` makes of the regular file `path`; undefined if there is none. */
function withBundle<T>(rootfs: Rootfs, path: string, flags: number, use: (fd: number) => T): T | undefined {
  const fd = rootfs.openFile(path, flags);
  if (fd === undefined) {
    return undefined;
  }
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

function readBundle(fd: number, path: string): Buffer {
  const { size } = fstatSync(fd);
  if (size > maxBundleBytes) {
    throw new ResourceExhaustedError(
      `Cannot have programs trust the proxy: ${path} of the image has ${size} bytes, want at most ${maxBundleBytes}`,
    );
  }
  const content = Buffer.alloc(size);
  return content.subarray(0, readSync(fd, content, 0, size, 0));
}

function write(fd: number, content: Buffer): void {
  for (let at = 0; at < content.length; ) {
    at += writeSync(fd, content, at, content.length - at, at);
  }
  ftruncateSync(fd, content.length);
}

/** `content` with every `block` cut out. */
function without(content: Buffer, block: Buffer): Buffer {
  const kept: Buffer[] = [];
  let at = 0;
  for (let found = content.indexOf(block); found >= 0; found = content.indexOf(block, at)) {
    kept.push(content.subarray(at, found));
    at = found + block.length;
  }
  return Buffer.concat([...kept, content.subarray(at)]);
}
