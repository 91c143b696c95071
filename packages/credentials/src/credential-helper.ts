import { spawn } from "node:child_process";
import { UnavailableError } from "@oci-worker/errdefs";
import { Fields, parseDocument } from "@oci-worker/oci/document";
import type { Credentials } from "./credentials.ts";
import { Secret } from "./secret.ts";

/** Longest answer of a helper, in bytes. */
const maxAnswerBytes = 64 * 1024;

/** A helper that answers with this user name gives an identity token (docker-credential-helpers). */
const identityTokenUser = "<token>";

/** How helpers say that they have nothing, on standard output and with exit code 1. */
const nothingHere =
  /credentials not found in native keychain|no credentials server URL|no credentials username/;

/** Longest text of a helper that an error repeats, in bytes. */
const maxWordsBytes = 200;

export interface HelperOptions {
  /** Whether an error may repeat what a failing helper says: only where its own user reads it, since it may be a secret. */
  readonly repeatWords?: boolean;
}

/**
 * Asks the program `docker-credential-<name>` for the credentials of `server`: "get", with the server on its standard
 * input and a JSON object on its standard output (docker-credential-helpers).
 *
 * @returns undefined if it has none.
 * @throws {UnavailableError} if it cannot be run, fails or answers nonsense.
 */
export async function askCredentialHelper(
  name: string,
  server: string,
  signal: AbortSignal,
  { repeatWords = false }: HelperOptions = {},
): Promise<Credentials | undefined> {
  const program = `docker-credential-${name}`;
  const fail = (reason: string, options?: ErrorOptions) =>
    new UnavailableError(`Cannot get credentials for ${server} from ${program}: ${reason}`, options);
  const { code, output } = await run(program, server, signal, fail);
  if (code !== 0) {
    if (nothingHere.test(output.toString("utf8"))) {
      return undefined;
    }
    const words = repeatWords ? output.toString("utf8", 0, maxWordsBytes).trim() : "";
    const end = code === undefined ? "it was ended by a signal" : `it exited with code ${code}`;
    throw fail(words === "" ? end : `${end}: ${words}`);
  }
  const { username, secret } = parseAnswer(output, fail);
  if (secret === "") {
    return undefined;
  }
  return username === identityTokenUser || username === ""
    ? { kind: "identity-token", token: new Secret(secret) }
    : { kind: "password", username, password: new Secret(secret) };
}

type Fail = (reason: string, options?: ErrorOptions) => UnavailableError;

function parseAnswer(output: Buffer, fail: Fail): { username: string; secret: string } {
  try {
    const fields = new Fields("answer", parseDocument("answer", output, maxAnswerBytes));
    return { username: fields.text("Username") ?? "", secret: fields.text("Secret") ?? "" };
  } catch (cause) {
    throw fail("its answer is no JSON object with Username and Secret", { cause });
  }
}

function run(
  program: string,
  input: string,
  signal: AbortSignal,
  fail: Fail,
): Promise<{ code: number | undefined; output: Buffer }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ code: number | undefined; output: Buffer }>();
  const child = spawn(program, ["get"], { stdio: ["pipe", "pipe", "ignore"], signal, killSignal: "SIGKILL" });
  const chunks: Buffer[] = [];
  let size = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size > maxAnswerBytes) {
      child.kill("SIGKILL");
      reject(fail(`its answer is longer than ${maxAnswerBytes} bytes`));
    } else {
      chunks.push(chunk);
    }
  });
  child.on("error", (cause: NodeJS.ErrnoException) => {
    reject(
      fail(cause.code === "ENOENT" ? "there is no such program on PATH" : "it could not be run", { cause }),
    );
  });
  child.on("close", (code) => resolve({ code: code ?? undefined, output: Buffer.concat(chunks) }));
  // A helper that does not read its input has its reasons; its exit code tells.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  return promise;
}
