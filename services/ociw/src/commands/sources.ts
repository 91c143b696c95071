import { unixChannel } from "@oci-worker/grpc/channel";
import { type Explanation, explainSources, type HostExplanation } from "@oci-worker/sources/explain";
import { UsageError } from "../args/usage-error.ts";
import { oneLine } from "../output/failure.ts";
import { formatFlags, json, wantsJSON } from "../output/format.ts";
import { type Cell, table } from "../output/table.ts";
import type { Command } from "./command.ts";

/** Where oci-resolver listens unless it is told otherwise. */
const defaultResolver = "/run/oci-worker/resolver.sock";

/** `ociw sources` */
export const sources: Command = {
  synopsis: "sources [flags] [IMAGE]",
  summary: "Tells where images came from: which host and keychain served them, and what was tried before.",
  details: [
    "Asks oci-resolver, which remembers some thousand images until it restarts. No password or token is told.",
  ],
  flags: {
    "resolver-address": { value: "SOCKET", help: `socket of the resolver (default ${defaultResolver})` },
    ...formatFlags,
  },

  async run({ flags, words, rest, terminal }) {
    const [reference, ...others] = words;
    if (others.length > 0 || rest !== undefined) {
      throw new UsageError("Cannot tell of several images: want one, or none for all");
    }
    using channel = unixChannel(flags["resolver-address"]?.[0] ?? defaultResolver);
    const explanations = await explainSources(channel, reference);
    terminal.stdout.write(wantsJSON(flags) ? json(explanations) : asTable(explanations));
    return 0;
  },
};

const headings = ["IMAGE", "ACCESS", "HOST", "OUTCOME", "KEYCHAIN", "TRIED BEFORE"];

/** One row for each host; the image stands in the first of its rows. */
function asTable(explanations: readonly Explanation[]): string {
  const rows = explanations.flatMap(({ reference, access, hosts }) => {
    const [first, ...others] = hosts.map(hostCells);
    return [[[reference], [access], ...(first ?? [])], ...others.map((cells): Cell[] => [[], [], ...cells])];
  });
  return table(headings, rows);
}

function hostCells({ url, mirrorOf, outcome, failure, keychain, tried }: HostExplanation): Cell[] {
  return [
    mirrorOf === undefined ? [url] : [url, `mirror of ${mirrorOf}`],
    [failure === undefined ? outcome : `${outcome}: ${oneLine(failure)}`],
    [keychain ?? "-"],
    tried.map((each) => `${each.keychain}: ${oneLine(each.reason)}`),
  ];
}
