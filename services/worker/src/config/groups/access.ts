import { isAbsolute } from "node:path";
import { shown, WrongValueError, wrongValue } from "../kind.ts";
import { listOf, oneOf, socketPath, text, textual } from "../kinds.ts";
import { setting } from "../setting.ts";

/** An address to listen on, checked: `unix://PATH`, or `fd://` for sockets that the service manager passes. */
const address = textual("ADDRESS", (value) => {
  if (value === "fd://") {
    return value;
  }
  if (isAbsolute(value) || value.startsWith("unix://")) {
    return `unix://${socketPath(value)}`;
  }
  if (!value.includes("://")) {
    const plain = shown(value).slice(1, -1);
    throw new WrongValueError(`address ${plain} does not contain proto, you meant unix://${plain} ?`);
  }
  throw wrongValue(value, "unix://PATH or fd://");
});

const entitlementNames = ["network.host", "security.insecure"] as const;
export type Entitlement = (typeof entitlementNames)[number];

/** Who may reach the worker, and what they may ask of it. */
export const accessSettings = {
  addresses: setting(listOf(address), {
    flag: "addr",
    key: "grpc.address",
    fallback: ["unix:///run/oci-worker/worker.sock"],
    help: "address to listen on: unix://PATH, or fd:// for what systemd passes",
  }),
  group: setting(text, {
    flag: "group",
    fallback: undefined,
    unset: "the process's own",
    help: "group, by name or number, that may connect to unix sockets",
  }),
  entitlements: setting(
    listOf(oneOf(entitlementNames, { unknown: (value) => `invalid entitlement ${value}`, operand: "NAME" })),
    {
      flag: "allow-insecure-entitlement",
      key: "insecure-entitlements",
      fallback: [],
      help: `what builds may be granted beyond the sandbox: ${entitlementNames.join(", ")}`,
    },
  ),
};
