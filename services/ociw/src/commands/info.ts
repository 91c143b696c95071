import { UsageError } from "../args/usage-error.ts";
import { formatFlags, json, wantsJSON } from "../output/format.ts";
import { table } from "../output/table.ts";
import type { Command } from "./command.ts";

/** `ociw info` */
export const info: Command = {
  synopsis: "info [flags]",
  summary: "Tells which program the daemon is.",
  details: [],
  flags: formatFlags,

  async run({ address, connect, flags, words, rest, terminal }) {
    if (words.length > 0 || rest !== undefined) {
      throw new UsageError("Cannot tell more than is asked: want no more words after info");
    }
    await using client = await connect();
    const daemon = { address, ...(await client.info()) };
    const rows = [[[daemon.address], [daemon.package], [daemon.version], [daemon.revision]]];
    const text = wantsJSON(flags) ? json(daemon) : table(["ADDRESS", "PACKAGE", "VERSION", "REVISION"], rows);
    terminal.stdout.write(text);
    return 0;
  },
};
