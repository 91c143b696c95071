import { FileSendPackets } from "@oci-worker/fsutil/file-send";
import { answering } from "@oci-worker/fsutil/packet-stream";
import { type ReceivedTree, receiveTree } from "@oci-worker/fsutil/receive";
import { type Implementation, implement } from "@oci-worker/grpc/router";

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
