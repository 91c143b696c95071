import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

/** Who may use a registry, and how that is checked. */
export type RegistryAccess = OpenAccess | PasswordAccess | TokenAccess;

export interface OpenAccess {
  readonly kind: "open";
}

/** Basic authentication against an htpasswd file. */
export interface PasswordAccess {
  readonly kind: "password";
  readonly username: string;
  readonly password: string;
}

/** Bearer tokens of a token server; see `token-server.ts`. */
export interface TokenAccess {
  readonly kind: "token";
  readonly realm: string;
  readonly service: string;
  readonly issuer: string;
  /** PEM file with the certificate that signs tokens. */
  readonly certFile: string;
}

export interface RegistryOptions {
  readonly access?: RegistryAccess;
  /** PEM files; absent: plain HTTP. With `clientCaFile` only clients with a certificate of that authority are let in. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string; readonly clientCaFile?: string };
}

/** Debian's docker-registry, as a process on loopback with storage of its own. Disposing ends it. */
export interface RegistryPeer extends AsyncDisposable {
  /** Address and port, as in image names. */
  readonly host: string;
  /** Directory with its blobs, for spoiling them. */
  readonly storage: string;
  /** What it has logged so far, one line for each event and request. */
  readonly log: readonly string[];
  /** Ends the process; the storage stays until the peer is disposed of. */
  stop(): Promise<void>;
  /** Starts it again where it was, after {@link stop}. */
  start(): Promise<void>;
  /** Has it take connections and answer nothing. */
  pause(): void;
  resume(): void;
}

const program = "docker-registry";

/** Ends the registry when this process does, however that ends (prctl(2), PR_SET_PDEATHSIG); part of util-linux. */
const withParent = ["/usr/bin/setpriv", "--pdeathsig", "KILL"] as const;

/** The exit code of setpriv where there is no such program. */
const notFound = 127;

/** The registry says so when it takes connections, with the port that the kernel has chosen. */
const listening = /listening on (127\.0\.0\.1:\d+)/;

/**
 * Starts a registry and waits until it takes connections.
 *
 * @throws if there is no such program, or it ends before it is ready, with what it said.
 */
export async function startRegistry({
  access = { kind: "open" },
  tls,
}: RegistryOptions = {}): Promise<RegistryPeer> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "registry-")));
  const configFor = async (address: string) => ({
    version: 0.1,
    log: { level: "info", accesslog: { disabled: false } },
    storage: { filesystem: { rootdirectory: join(directory.path, "storage") }, delete: { enabled: true } },
    http: {
      addr: address,
      secret: randomBytes(16).toString("hex"),
      ...(tls && {
        tls: {
          certificate: tls.certFile,
          key: tls.keyFile,
          ...(tls.clientCaFile && { clientcas: [tls.clientCaFile] }),
        },
      }),
    },
    ...(await authSection(access, directory.path)),
  });
  const configFile = join(directory.path, "config.yml");
  const log: string[] = [];
  const start = async (address: string) => {
    // JSON is YAML.
    await writeFile(configFile, JSON.stringify(await configFor(address)));
    const [setpriv, ...flags] = withParent;
    return spawn(setpriv, [...flags, program, "serve", configFile], { stdio: ["ignore", "pipe", "pipe"] });
  };
  let child = await start("127.0.0.1:0");
  undo.defer(() => end(child));
  const host = await ready(child, log);
  const owned = undo.move();
  return {
    host,
    storage: join(directory.path, "storage"),
    log,
    stop: () => end(child),
    start: async () => {
      child = await start(host);
      await ready(child, log);
    },
    pause: () => void child.kill("SIGSTOP"),
    resume: () => void child.kill("SIGCONT"),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function authSection(access: RegistryAccess, directory: string): Promise<object> {
  switch (access.kind) {
    case "open":
      return {};
    case "password": {
      const path = join(directory, "htpasswd");
      await writeFile(path, `${access.username}:${await bcrypt(access.password)}\n`);
      await chmod(path, 0o600);
      return { auth: { htpasswd: { realm: "test registry", path } } };
    }
    case "token": {
      const { realm, service, issuer, certFile } = access;
      return { auth: { token: { realm, service, issuer, rootcertbundle: certFile } } };
    }
  }
}

/** The alphabet of bcrypt's salts. */
const saltAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/** What htpasswd -B makes, by crypt(3): Perl is a part of every Debian system, and htpasswd is not. */
async function bcrypt(password: string): Promise<string> {
  const salt = [...randomBytes(22)].map((byte) => saltAlphabet[byte % 64]).join("");
  const call = promisify(execFile)("perl", [
    "-e",
    'print crypt(join("", <STDIN>), $ARGV[0])',
    `$2y$05$${salt}`,
  ]);
  // By standard input, because everybody sees the arguments of a process.
  call.child.stdin?.end(password);
  const { stdout } = await call;
  if (!stdout.startsWith("$2y$")) {
    throw new Error("Cannot make a bcrypt hash: crypt(3) of this system does not know it");
  }
  return stdout;
}

/** Resolves with address and port when the registry takes connections. */
async function ready(child: ChildProcess, log: string[]): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  child.on("error", reject);
  child.on("exit", (code) => {
    const reason =
      code === notFound
        ? `missing peer: there is no ${program} on PATH, install the Debian package docker-registry`
        : `${program} ended with code ${code} before it was ready:\n${log.join("\n")}`;
    reject(new Error(reason));
  });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream !== null) {
      createInterface(stream).on("line", (line) => {
        log.push(line);
        const address = listening.exec(line)?.[1];
        if (address !== undefined) {
          resolve(address);
        }
      });
    }
  }
  return await promise;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
    return;
  }
  const exited = once(child, "exit");
  // It would otherwise wait for connections that clients keep open.
  child.kill("SIGKILL");
  await exited;
}
