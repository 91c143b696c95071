import { isAbsolute } from "node:path";
import { type Kind, shown, WrongValueError, wrongValue } from "../kind.ts";
import { file, listOf, oneOf, socketPath, text, textual, wholeNumber } from "../kinds.ts";
import { setting } from "../setting.ts";
import { tcpAddress } from "../tcp-address.ts";

/** An address to listen on, checked: `unix://PATH`, `tcp://HOST:PORT`, or `fd://` for what the service manager passes. */
const address = textual("ADDRESS", (value) => {
  if (value === "fd://") {
    return value;
  }
  if (value.startsWith("tcp://")) {
    tcpAddress(value);
    return value;
  }
  if (isAbsolute(value) || value.startsWith("unix://")) {
    return `unix://${socketPath(value)}`;
  }
  if (!value.includes("://")) {
    const plain = shown(value).slice(1, -1);
    throw new WrongValueError(`address ${plain} does not contain proto, you meant unix://${plain} ?`);
  }
  throw wrongValue(value, "unix://PATH, tcp://HOST:PORT or fd://");
});

/**
 * Group that owns the sockets. The file has it as a number, the flag by name, too.
 */
const group: Kind<string> = {
  ...text,
  operand: "GROUP",
  fromToml: (value) =>
    typeof value === "number" ? String(userNumber.fromToml(value)) : text.fromToml(value),
  toToml: (value) => (/^\d+$/.test(value) ? Number(value) : value),
};

/** What a user or a group can have for a number (the largest one stands for "no change", chown(2)). */
const userNumber = wholeNumber(0, 2 ** 32 - 2);

const entitlementNames = ["network.host", "security.insecure", "device"] as const;
export type Entitlement = (typeof entitlementNames)[number];

/** Who may reach the worker, and what they may ask of it. */
export const accessSettings = {
  addresses: setting(listOf(address), {
    flag: "addr",
    key: "grpc.address",
    fallback: ["unix:///run/oci-worker/worker.sock"],
    help: "address to listen on: unix://PATH, tcp://HOST:PORT, or fd:// for what systemd passes",
  }),
  group: setting(group, {
    flag: "group",
    key: "grpc.gid",
    fallback: undefined,
    unset: "the process's own",
    help: "group, by name or number, that may connect to unix sockets",
  }),
  socketOwner: setting(userNumber, {
    key: "grpc.uid",
    fallback: undefined,
    unset: "the process's own",
    help: "user, by number, that owns unix sockets",
  }),
  tlsCert: setting(file, {
    flag: "tlscert",
    key: "grpc.tls.cert",
    fallback: undefined,
    help: "certificate (PEM) for tcp:// addresses",
  }),
  tlsKey: setting(file, {
    flag: "tlskey",
    key: "grpc.tls.key",
    fallback: undefined,
    help: "its key (PEM)",
  }),
  tlsCa: setting(file, {
    flag: "tlscacert",
    key: "grpc.tls.ca",
    fallback: undefined,
    help: "authorities (PEM) that sign the certificates of clients, which then have to have one",
  }),
  entitlements: setting(
    listOf(oneOf(entitlementNames, { unknown: (value) => `invalid entitlement ${value}`, operand: "NAME" })),
    {
      flag: "allow-insecure-entitlement",
      key: "insecure-entitlements",
      fallback: [],
      help: "what builds may be granted beyond the sandbox: network.host, security.insecure; device is, unless cdi.disabled",
    },
  ),
};
