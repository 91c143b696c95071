import { isMessage, type Message } from "@bufbuild/protobuf";
import { UpdateSnapshotRequestSchema } from "@oci-worker/api/containerd/snapshots";

/** Fields of requests that tell what they are about, by the names that they have in the log. Labels are not among them:
 * some name sessions. */
const told = {
  snapshotter: "client",
  key: "key",
  name: "name",
  parent: "parent",
  filters: "filters",
} as const;

const maxShownChars = 200;

/** What a line of the log says of a request of the Snapshots API: which client asks, and for which snapshots. */
export function describeRequest(request: Message): object {
  const fields: Record<string, unknown> = {};
  for (const [field, name] of Object.entries(told)) {
    const value: unknown = (request as unknown as Readonly<Record<string, unknown>>)[field];
    if (typeof value === "string" && value !== "") {
      fields[name] = shortened(value);
    } else if (Array.isArray(value) && value.length > 0) {
      fields[name] = shortened(value.join(" | "));
    }
  }
  if (isMessage(request, UpdateSnapshotRequestSchema)) {
    fields["key"] = shortened(request.info?.name ?? "");
  }
  return fields;
}

function shortened(text: string): string {
  return text.length <= maxShownChars ? text : `${text.slice(0, maxShownChars)}…`;
}
