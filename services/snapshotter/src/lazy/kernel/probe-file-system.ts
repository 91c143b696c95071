import { writeAttributes } from "@oci-worker/fuse/attributes";
import { errno } from "@oci-worker/fuse/errno";
import type { FileSystem } from "@oci-worker/fuse/file-system";

/** What the thread is told. */
export interface ProbeServerData {
  readonly fd: number;
  /** The image whose files to serve, as the tree {@link probeTree}; undefined for the data device of one. */
  readonly metaPath?: string;
}

/** Name of the file, and of that in the image whose content it has. */
export const probeFile = "1";

export const probeTree = 1;

export const probeContent: Buffer = Buffer.from("as it should be\n");

const deviceBytes = 4096;
const [rootNode, fileNode] = [1, 2];
const ownedByRoot = { links: 1, uid: 0, gid: 0, deviceNumber: 0, modifiedSeconds: 0n, modifiedNanos: 0 };

const device = Buffer.concat([probeContent], deviceBytes);

export function readProbeDevice(offset: number, size: number, reply: Buffer, at: number): number {
  return device.copy(reply, at, offset, offset + size);
}

/** One file: a data device of one block. */
export class ProbeFileSystem implements FileSystem {
  readonly cache = { seconds: 60, absent: false };

  lookup(parent: number, request: Buffer, from: number, to: number): number {
    return parent === rootNode && request.toString("latin1", from, to) === probeFile ? fileNode : 0;
  }

  attributes(node: number, reply: Buffer, at: number): boolean {
    const file =
      node === rootNode ? { mode: 0o040700, sizeBytes: 0 } : { mode: 0o100400, sizeBytes: deviceBytes };
    writeAttributes(reply, at, { ...ownedByRoot, inode: node, ...file });
    return node === rootNode || node === fileNode;
  }

  readLink(): number {
    return -errno.EINVAL;
  }

  list(): undefined {
    return undefined;
  }

  xattr(): undefined {
    return undefined;
  }

  xattrNames(): readonly string[] {
    return [];
  }

  read(_node: number, offset: number, size: number, reply: Buffer, at: number): number {
    return readProbeDevice(offset, size, reply, at);
  }

  interrupt(): void {}
}
