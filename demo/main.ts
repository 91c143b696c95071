import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { formatReference, parseReference } from "@oci-worker/oci/reference";
import { createImage } from "../e2e/peers/image.ts";
import { pushTo, user } from "../e2e/peers/pushed-image.ts";
import { startRegistry } from "../e2e/peers/registry.ts";
import { Stage } from "./stage.ts";

const { values, positionals } = parseArgs({
  options: { image: { type: "string" } },
  allowPositionals: true,
});

const greeting = "hello from a container that three services made";

/** An image to run, what to run in it, and whose password opens its registry. */
interface Subject {
  readonly reference: string;
  readonly command: readonly string[];
  /** Undefined: the credentials of docker's configuration are used. */
  readonly login: { readonly username: string; readonly password: string } | undefined;
}

await using undo = new AsyncDisposableStack();
const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "oci-worker-demo-")));
const stage = new Stage(directory.path);

const subject: Subject =
  values.image === undefined
    ? await ownImage()
    : { reference: formatReference(parseReference(values.image)), command: positionals, login: undefined };

stage.say("One program starts the worker, and with it its snapshotter and its resolver.");
const worker = await stage.startWorker();
undo.use(worker);

stage.say("A wrong password is refused.");
const wrong = await stage.ociw(
  [...credentials(subject.login?.username ?? "nobody"), subject.reference, ...command()],
  "not-the-password",
);
stage.check(values.image !== undefined || wrong.code === 1, "a wrong password was taken");
if (wrong.code === 0) {
  stage.say("This registry lets everybody in, with any password.");
}

const username = subject.login?.username;
const login = username === undefined ? [] : credentials(username);
stage.say("With the right one the image is pulled, unpacked, and the command run in it.");
const first = await stage.ociw([...login, subject.reference, ...command()], subject.login?.password);
stage.check(first.code === 0, "the command has failed");
stage.check(
  values.image !== undefined || first.stdout === `${greeting}\n`,
  "the command has printed something else",
);

stage.say("Once more: the image is there already, only the command runs.");
const second = await stage.ociw([...login, subject.reference, ...command()], subject.login?.password);
stage.check(second.code === 0 && second.stderr.includes("CACHED"), "the image did not come from the cache");

stage.say("This is the worker that did it.");
stage.check((await stage.tool("ociw", ["workers"])).code === 0, "the worker could not be listed");

stage.check((await worker.stop()) === 0, "the worker did not end well");
stage.check((await mountPointsBeneath(directory.path)).length === 0, "a mount is left");
await undo.disposeAsync();
stage.end(
  "Shown: a worker, a snapshotter and a resolver pull an image with a password, unpack it, and run a command in it.",
);

/** A registry on loopback that asks for a password, with an image of two layers in it that we have just made. */
async function ownImage(): Promise<Subject> {
  stage.say(
    "A registry on loopback, with a password, gets an image of two layers: busybox, and a file on top.",
  );
  const registry = undo.use(await startRegistry({ access: { kind: "password", ...user } }));
  const reference = await pushTo(
    registry,
    await createImage({ files: { "/greeting": `${greeting}\n` } }),
    "demo/busybox",
  );
  stage.note(`pushed ${formatReference(reference)}`);
  return { reference: formatReference(reference), command: ["cat", "/greeting"], login: user };
}

function credentials(name: string): string[] {
  return ["--username", name, "--password-stdin"];
}

function command(): string[] {
  return subject.command.length > 0 ? ["--", ...subject.command] : [];
}
