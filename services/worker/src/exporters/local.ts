import { createClient } from "@connectrpc/connect";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import { directoryTree } from "@oci-worker/fsutil/directory-tree";
import { FileSendPackets } from "@oci-worker/fsutil/file-send";
import { calling } from "@oci-worker/fsutil/packet-stream";
import { sendTree } from "@oci-worker/fsutil/send";
import type { ExportContext, Exporter } from "../builds/exporter.ts";
import type { RefStore } from "../refs/ref-store.ts";
import type { Ref } from "../solver/operation.ts";
import { requireFileTaker } from "./send-file.ts";

/** `type=local`: the result's files go into a directory of the client's. */
export class LocalExporter implements Exporter {
  readonly name = "exporting to client directory";
  readonly #refs: RefStore;

  constructor(refs: RefStore) {
    this.#refs = refs;
  }

  async export(
    result: Ref,
    { session, report, signal }: ExportContext,
  ): Promise<Readonly<Record<string, string>>> {
    const taker = requireFileTaker(session);
    await using directory = await this.#refs.mount(result, signal);
    const client = createClient(FileSendPackets, taker.channel);
    const row = report.row("copying files");
    try {
      await calling(
        (outgoing, limit) => client.diffCopy(outgoing, { signal: limit }),
        (stream) =>
          sendTree(stream, directoryTree(directory.path), {
            onProgress: (sentBytes) => row.update(sentBytes, 0),
          }),
        signal,
      );
    } catch (thrown) {
      throw fromConnectError(thrown);
    }
    row.complete();
    return {};
  }
}
