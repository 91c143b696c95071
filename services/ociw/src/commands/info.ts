import { BuildKitClient } from "@oci-worker/client";
import { UsageError } from "../args/usage-error.ts";
import { formatFlag, json } from "../output/format.ts";
import { table } from "../output/table.ts";
import type { Command } from "./command.ts";

/** `ociw info` */
export const info: Command = {
  synopsis: "info [flags]",
  summary: "Tells which program the daemon is.",
  details: [],
  flags: { format: formatFlag },

  async run({ address, flags, words, rest, terminal }) {
    if (words.length > 0 || rest !== undefined) {
      throw new UsageError("Cannot tell more than is asked: want no more words after info");
    }
    await using client = new BuildKitClient(address);
    const daemon = { address, ...(await client.info()) };
    const rows = [[[daemon.address], [daemon.package], [daemon.version], [daemon.revision]]];
    const text =
      flags["format"]?.[0] === "json"
        ? json(daemon)
        : table(["ADDRESS", "PACKAGE", "VERSION", "REVISION"], rows);
    terminal.stdout.write(text);
    return 0;
  },
};
