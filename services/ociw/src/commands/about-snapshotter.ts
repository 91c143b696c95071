import type { Transport } from "@connectrpc/connect";
import { UnimplementedError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { snapshotterAddressFlag, snapshotterAddressOf } from "../args/snapshotter-address.ts";
import { UsageError } from "../args/usage-error.ts";
import { oneLine } from "../output/failure.ts";
import { formatFlags, json, wantsJSON } from "../output/format.ts";
import type { Command } from "./command.ts";

/** What a command tells of an oci-snapshotter as a whole. */
export interface AboutSnapshotter<T extends object> extends Pick<Command, "synopsis" | "summary"> {
  /** What cannot be done with another snapshotter, before its address: "describe". */
  readonly purpose: string;
  /** @returns undefined from one that is none of ours. */
  readonly ask: (transport: Transport) => Promise<T | undefined>;
  readonly asText: (answer: T, environment: NodeJS.ProcessEnv) => string;
}

/** A command that asks oci-snapshotter for something, and tells it to people or, as JSON, to programs. */
export function aboutSnapshotter<T extends object>(about: AboutSnapshotter<T>): Command {
  const { synopsis, summary, purpose, ask, asText } = about;
  return {
    synopsis,
    summary,
    details: ["Asks oci-snapshotter; other snapshotters do not tell."],
    flags: { "snapshotter-address": snapshotterAddressFlag, ...formatFlags },

    async run({ flags, words, rest, terminal }) {
      if (words.length > 0 || rest !== undefined) {
        throw new UsageError("Cannot tell about that: the command takes no words");
      }
      const address = snapshotterAddressOf(flags, terminal.env);
      using channel = unixChannel(address);
      const answer = await ask(channel);
      if (answer === undefined) {
        throw new UnimplementedError(`Cannot ${purpose} ${address}: it is no oci-snapshotter`);
      }
      terminal.stdout.write(wantsJSON(flags) ? json(answer) : asText(answer, terminal.env));
      return 0;
    },
  };
}

/** How lazy layers are mounted, and what is in the way of better ones. */
export function mountedBy(
  mode: string,
  passedOver: readonly { readonly mode: string; readonly obstacle: string }[],
): string {
  const better = passedOver.map((each) => `${each.mode}: ${oneLine(each.obstacle)}`).join("; ");
  return better === "" ? mode : `${mode} (${better})`;
}
