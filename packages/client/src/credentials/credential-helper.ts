import { spawn } from "node:child_process";
import { InvalidArgumentError, UnavailableError } from "@oci-worker/errdefs";
import { Fields, parseDocument } from "@oci-worker/oci/document";
import type { Credentials } from "./credentials.ts";
import { Secret } from "./secret.ts";

/** What a helper answers fits many times over; more is a fault. */
const maxAnswerBytes = 64 * 1024;

/** A helper may ask a person to unlock a keychain. One that takes longer is stuck. In milliseconds. */
const patienceMs = 60_000;

/** The name of a helper becomes part of a program's name, so it must not become a path. */
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** User name that says the secret is an identity token (docker-credential-helpers, client/command.go). */
const tokenUsername = "<token>";

/** What helpers print when they know nothing about a server (docker-credential-helpers, credentials/error.go). */
const notFound = /credentials not found/i;

interface Answer {
  readonly exitCode: number;
  readonly output: Buffer;
}

/**
 * Asks the program `docker-credential-<name>` for the credentials of `server`.
 *
 * @returns undefined if the helper knows none.
 * @throws {InvalidArgumentError} if `name` is no name of a helper, or its answer none.
 * @throws {UnavailableError} if the helper cannot be run, fails or does not answer.
 */
export async function askCredentialHelper(
  name: string,
  server: string,
  signal: AbortSignal | undefined,
): Promise<Credentials | undefined> {
  if (!namePattern.test(name)) {
    throw new InvalidArgumentError(
      `Cannot ask credential helper ${JSON.stringify(name.slice(0, 100))}: want letters, digits, ".", "_" and "-"`,
    );
  }
  const program = `docker-credential-${name}`;
  const { exitCode, output } = await run(program, server, signal);
  if (exitCode !== 0) {
    const text = output.toString("utf8", 0, 200).trim();
    if (notFound.test(text)) {
      return undefined;
    }
    throw new UnavailableError(
      `Cannot get credentials of ${server}: ${program} exited with ${exitCode}: ${text}`,
    );
  }
  return credentialsIn(output, program);
}

function credentialsIn(output: Buffer, program: string): Credentials | undefined {
  const fields = new Fields(`answer of ${program}`, parseDocument(`answer of ${program}`, output));
  const username = fields.text("Username") ?? "";
  const secret = fields.text("Secret") ?? "";
  if (secret === "") {
    return undefined;
  }
  return username === tokenUsername
    ? { kind: "identity-token", token: new Secret(secret) }
    : { kind: "password", username, password: new Secret(secret) };
}

function run(program: string, input: string, signal: AbortSignal | undefined): Promise<Answer> {
  const patience = AbortSignal.timeout(patienceMs);
  const ends = signal === undefined ? patience : AbortSignal.any([signal, patience]);
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const child = spawn(program, ["get"], {
    stdio: ["pipe", "pipe", "ignore"],
    signal: ends,
    killSignal: "SIGKILL",
  });
  const chunks: Buffer[] = [];
  let bytes = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) {
      child.kill("SIGKILL");
    } else {
      chunks.push(chunk);
    }
  });
  child.on("error", (cause: NodeJS.ErrnoException) => {
    const why = cause.code === "ENOENT" ? "there is no such program in PATH" : cause.message;
    reject(new UnavailableError(`Cannot run ${program}: ${why}`, { cause }));
  });
  child.on("close", (exitCode, killedBy) => {
    if (exitCode === null || bytes > maxAnswerBytes) {
      const why = bytes > maxAnswerBytes ? "it answered too much" : `it was ended by ${killedBy}`;
      reject(new UnavailableError(`Cannot run ${program}: ${why}`));
    } else {
      resolve({ exitCode, output: Buffer.concat(chunks) });
    }
  });
  // A helper that ends without reading is told by its exit code.
  child.stdin.on("error", () => undefined);
  child.stdin.end(`${input}\n`);
  return promise;
}
