import type { GenService } from "@bufbuild/protobuf/codegenv2";
import { FileSend, FileSync } from "@oci-worker/api/session/file-sync";
import type { PacketSchema } from "@oci-worker/api/session/fsutil";

/**
 * `moby.filesync.v1.FileSend` when it carries a directory.
 *
 * Its one method has two forms that no descriptor tells apart: bytes of a file, as its declaration says, or packets of
 * the file transfer protocol, as `FileSync` declares them. Which one a call has depends on what was asked to be exported.
 */
export const FileSendPackets: GenService<{
  diffCopy: {
    methodKind: "bidi_streaming";
    input: typeof PacketSchema;
    output: typeof PacketSchema;
  };
}> = describe();

function describe(): typeof FileSendPackets {
  const method = { ...FileSync.method.diffCopy, parent: FileSend };
  // Only the types of the messages differ from what was generated.
  return {
    ...FileSend,
    method: { diffCopy: method },
    methods: [method],
  } as unknown as typeof FileSendPackets;
}
