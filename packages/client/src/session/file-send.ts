import { FileSend } from "@oci-worker/api/session/file-sync";
import { FileSendPackets } from "@oci-worker/fsutil/file-send";
import { answering } from "@oci-worker/fsutil/packet-stream";
import { type ReceivedTree, receiveTree } from "@oci-worker/fsutil/receive";
import { type Implementation, implement } from "@oci-worker/grpc/router";
import type { FileTaker } from "../build/build.ts";

/** Begins the names of the headers that say what a file is (BuildKit, session/filesync). */
const metadataPrefix = "exporter-md-";

/**
 * Serves moby.filesync.v1.FileSend for the exporter `local`: the result of a build is written into `directory` as our
 * own files. What is there already stays, unless the result has something at the same place.
 *
 * @param done told what has arrived.
 */
export function fileSendService(directory: string, done: (received: ReceivedTree) => void): Implementation {
  return implement(FileSendPackets, {
    diffCopy: (requests) =>
      answering(requests, (stream) => receiveTree(stream, directory, { owner: "self" }), done),
  });
}

/** Serves moby.filesync.v1.FileSend for exporters that send one file, such as `oci`: its bytes go to `write`. */
export function fileTakingService(write: FileTaker): Implementation {
  return implement(FileSend, {
    async *diffCopy(requests, { requestHeader }) {
      async function* pieces() {
        for await (const { data } of requests) {
          yield data;
        }
      }
      const about = [...requestHeader].flatMap(([name, value]): [string, string][] =>
        name.startsWith(metadataPrefix) ? [[name.slice(metadataPrefix.length), value]] : [],
      );
      await write(pieces(), Object.fromEntries(about));
    },
  });
}
