import { posix, resolve } from "node:path";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { Capability, KeyPair, RegistryHost, TlsSettings } from "@oci-worker/registry/host";
import type { TomlTable } from "smol-toml";
import { parseToml } from "./toml.ts";

/** What one section of a `hosts.toml` says of one host. */
export interface HostSection {
  /** Absent: the registry itself, where it is without any file. */
  readonly endpoint?: Pick<RegistryHost, "scheme" | "host" | "path">;
  readonly capabilities: readonly Capability[];
  readonly tls?: TlsSettings;
  readonly headers?: Readonly<Record<string, readonly string[]>>;
}

export interface HostsFile {
  /** In the order in which to try them; the registry itself, or what stands in for it, is the last. */
  readonly sections: readonly HostSection[];
  /** Keys that mean nothing to us. */
  readonly unknownKeys: readonly string[];
}

const allCapabilities: readonly Capability[] = ["pull", "resolve", "push"];

const sectionKeys = ["capabilities", "ca", "client", "skip_verify", "override_path", "header"];

/** The characters of a header's name (RFC 9110, 5.6.2) and what may not be in its value. */
const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const badHeaderValue = /[\0\r\n]/;

/**
 * Reads a `hosts.toml` of containerd (docs/hosts.md).
 *
 * @param directory where it is, from which its file names count.
 * @throws {InvalidArgumentError} naming the key at fault.
 */
export function parseHostsFile(text: string, directory: string): HostsFile {
  const document = parseToml(text);
  const hosts = document["host"] === undefined ? {} : table("host", document["host"]);
  const unknownKeys = Object.keys(document).filter(
    (key) => !["server", "host", ...sectionKeys].includes(key),
  );
  const sections = Object.entries(hosts).map(([url, value]) => {
    const path = `host.${JSON.stringify(url)}`;
    const section = table(path, value);
    const unknown = Object.keys(section).filter((key) => !sectionKeys.includes(key));
    unknownKeys.push(...unknown.map((key) => `${path}.${key}`));
    const override = optionalTruth(`${path}.override_path`, section["override_path"]);
    return { endpoint: parseEndpoint(path, url, override), ...parseSettings(`${path}.`, section, directory) };
  });
  const server = optionalText("server", document["server"]);
  const override = optionalTruth("override_path", document["override_path"]);
  const registry = {
    ...(server !== undefined && { endpoint: parseEndpoint("server", server, override) }),
    ...parseSettings("", document, directory),
  };
  return { sections: [...sections, registry], unknownKeys };
}

/** @param prefix of the keys' paths, for errors. */
function parseSettings(prefix: string, section: TomlTable, directory: string): Omit<HostSection, "endpoint"> {
  const insecure = optionalTruth(`${prefix}skip_verify`, section["skip_verify"]);
  const caFiles = texts(`${prefix}ca`, section["ca"]).map((file) => resolve(directory, file));
  const keyPairs = parseClient(`${prefix}client`, section["client"], directory);
  const headers = parseHeaders(`${prefix}header`, section["header"]);
  const tls = {
    ...(insecure && { insecureSkipVerify: true }),
    ...(caFiles.length > 0 && { caFiles }),
    ...(keyPairs.length > 0 && { keyPairs }),
  };
  return {
    capabilities: parseCapabilities(`${prefix}capabilities`, section["capabilities"]),
    ...(Object.keys(tls).length > 0 && { tls }),
    ...(Object.keys(headers).length > 0 && { headers }),
  };
}

/** A host with or without scheme and path. The path ends in `/v2`, unless it is to be taken as it is. */
function parseEndpoint(
  path: string,
  text: string,
  overridePath: boolean,
): Pick<RegistryHost, "scheme" | "host" | "path"> {
  const withScheme = text.includes("://") ? text : `https://${text}`;
  const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined;
  const extras = url && `${url.username}${url.password}${url.search}${url.hash}`;
  if (url === undefined || !/^https?:$/.test(url.protocol) || extras !== "" || url.host === "") {
    throw wrong(path, "it is no http or https URL of a host, with or without port and path");
  }
  const clean = posix.join("/", url.pathname).replace(/\/$/, "");
  return {
    scheme: url.protocol === "http:" ? "http" : "https",
    host: url.host,
    path: overridePath || clean.endsWith("/v2") ? clean : `${clean}/v2`,
  };
}

function parseCapabilities(path: string, value: unknown): readonly Capability[] {
  const names = texts(path, value);
  const capabilities = names.map((name) => {
    const capability = allCapabilities.find((each) => each === name);
    if (capability === undefined) {
      throw wrong(path, `it has ${JSON.stringify(name.slice(0, 100))}, want ${allCapabilities.join(", ")}`);
    }
    return capability;
  });
  return capabilities.length > 0 ? capabilities : allCapabilities;
}

/** Certificates with their keys: one file with both, a list of such, or a list of pairs, an empty second one meaning both. */
function parseClient(path: string, value: unknown, directory: string): KeyPair[] {
  const entries = value === undefined ? [] : Array.isArray(value) ? value : [value];
  return entries.map((entry: unknown) => {
    const [cert, key = "", ...others] = Array.isArray(entry) ? entry : [entry];
    if (typeof cert !== "string" || cert === "" || typeof key !== "string" || others.length > 0) {
      throw wrong(path, "want a file, a list of files, or a list of pairs of certificate and key");
    }
    return { certFile: resolve(directory, cert), keyFile: resolve(directory, key || cert) };
  });
}

function parseHeaders(path: string, value: unknown): Record<string, readonly string[]> {
  const section = value === undefined ? {} : table(path, value);
  const headers: Record<string, readonly string[]> = {};
  for (const [name, lines] of Object.entries(section)) {
    const at = `${path}.${JSON.stringify(name)}`;
    if (!headerName.test(name)) {
      throw wrong(at, "it is no name of a header");
    }
    if (name.toLowerCase() === "authorization") {
      throw wrong(at, "want credentials in a keychain, such as static, from where nobody else gets them");
    }
    const values = texts(at, lines);
    if (values.some((line) => badHeaderValue.test(line))) {
      throw wrong(at, "want values without line breaks");
    }
    headers[name] = values;
  }
  return headers;
}

function table(path: string, value: unknown): TomlTable {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Date) {
    throw wrong(path, "want a table");
  }
  return value as TomlTable;
}

/** One text, or a list of them. */
function texts(path: string, value: unknown): readonly string[] {
  const list: unknown = typeof value === "string" ? [value] : (value ?? []);
  if (
    !Array.isArray(list) ||
    !list.every((each): each is string => typeof each === "string" && each !== "")
  ) {
    throw wrong(path, "want a text or a list of texts that are not empty");
  }
  return list;
}

function optionalText(path: string, value: unknown): string | undefined {
  if (value !== undefined && typeof value !== "string") {
    throw wrong(path, "want a text");
  }
  return value || undefined;
}

function optionalTruth(path: string, value: unknown): boolean {
  if (value !== undefined && typeof value !== "boolean") {
    throw wrong(path, "want true or false");
  }
  return value ?? false;
}

/** Values are not shown: a header may be a secret. */
function wrong(path: string, problem: string): InvalidArgumentError {
  return new InvalidArgumentError(`${path}: ${problem}`);
}
