import { mkdtempDisposable, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CredentialSource } from "@oci-worker/client/credentials";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { tocDigestAnnotation } from "@oci-worker/estargz/annotations";
import { formatReference, type Reference } from "@oci-worker/oci/reference";
import { RegistryClient } from "@oci-worker/registry/client";
import { upstreamHost } from "@oci-worker/registry/host";
import type { Repository } from "@oci-worker/registry/repository";
import { type Conversion, ImageConverter } from "../convert/convert-image.ts";
import { CredentialAuthorizer } from "../convert/credential-authorizer.ts";
import { maxRecordBytes, parseRecord, type RecordedFile } from "../convert/record.ts";
import { Steps } from "../convert/steps.ts";
import { failureLine, oneLine } from "../output/failure.ts";
import { json } from "../output/format.ts";
import { chosenMode, openDisplay } from "../progress/display.ts";
import type { Terminal } from "../terminal.ts";
import type { Command } from "./command.ts";
import { type ConvertRequest, convertFlags, convertRequest } from "./convert-flags.ts";
import { credentialsOf } from "./credentials.ts";
import { brokenPipeExitCode, listenForInterruption } from "./interruption.ts";
import { requireTerminal } from "./progress-flag.ts";

/** Paths that a warning names. */
const maxToldPaths = 10;

/** `ociw convert` */
export const convert: Command = {
  synopsis: "convert [flags] IMAGE NEWREF",
  summary: "Makes of an image one whose layers can be read in parts, and pushes it as NEWREF.",
  details: [
    "No daemon is asked: both are images of registries. The same image and flags give the same digests. What a layer\nhas that the format cannot say keeps it as it is, with a warning. NEWREF is put there last.",
    "Credentials come from docker's configuration, and from --username and --password-stdin for the registry of\nNEWREF alone, which may be that of IMAGE, too.",
    "Temporary files are in $TMPDIR: of two layers at a time what they are, unpack to and become.",
  ],
  flags: convertFlags,

  async run({ terminal, ...args }) {
    const request = convertRequest(args);
    requireTerminal(request.progress, terminal);
    const record = request.record === undefined ? undefined : await readRecord(request.record);
    const credentials = await credentialsOf(request.username, request.target, terminal);
    using interruption = listenForInterruption(terminal);
    try {
      const conversion = await converted(request, record, credentials, terminal, interruption.signal);
      tell(conversion, request, terminal);
      return 0;
    } catch (error) {
      const exitCode = interruption.exitCode();
      if (exitCode !== brokenPipeExitCode) {
        terminal.stderr.write(failureLine("ociw", error));
      }
      return exitCode ?? 1;
    }
  },
};

async function converted(
  { image, target, settings, platforms, progress }: ConvertRequest,
  record: readonly RecordedFile[] | undefined,
  credentials: CredentialSource,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Conversion> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "ociw-convert-"));
  using client = new RegistryClient();
  using display = openDisplay(
    chosenMode(progress, terminal),
    `converting ${formatReference(image)}`,
    terminal,
  );
  const isSameRegistry = image.domain === target.domain;
  const converter = new ImageConverter({
    source: repositoryOf(client, credentials, image, "pull"),
    target: repositoryOf(client, credentials, target, "push"),
    mountFrom: isSameRegistry && image.repository !== target.repository ? image.repository : undefined,
    settings,
    record,
    platforms,
    directory: directory.path,
    steps: new Steps((update) => display.update(update)),
  });
  try {
    return await converter.convert(image, target.tag, signal);
  } finally {
    display.end();
  }
}

function repositoryOf(
  client: RegistryClient,
  credentials: CredentialSource,
  { domain, repository }: Reference,
  access: "pull" | "push",
): Repository {
  const host = upstreamHost(domain);
  const authorizer = new CredentialAuthorizer(credentials, host, { repository, access });
  return client.repository({ hosts: [host], repository, authorizer });
}

async function readRecord(path: string): Promise<RecordedFile[]> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    if (size > maxRecordBytes) {
      throw new InvalidArgumentError(`it has ${size} bytes, want at most ${maxRecordBytes}`);
    }
    return parseRecord(await file.readFile("utf8"));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new InvalidArgumentError(`Cannot use --record ${path}: ${why}`, { cause });
  }
}

/** The name of the new image on standard output, for scripts; on standard error what people should look at. */
function tell({ descriptor, images, notes }: Conversion, request: ConvertRequest, terminal: Terminal): void {
  const { digest, mediaType, size } = descriptor;
  const name = formatReference({ ...request.target, digest });
  if (request.json) {
    const told = images.map(({ layers, ...image }) => ({
      ...image,
      layers: layers.map(({ source, descriptor: layer, diffID, keptBecause }) => ({
        source,
        digest: layer.digest,
        mediaType: layer.mediaType,
        size: layer.size,
        diffID,
        ...(layer.annotations?.[tocDigestAnnotation] && {
          tocDigest: layer.annotations[tocDigestAnnotation],
        }),
        ...(keptBecause !== undefined && { keptBecause }),
      })),
    }));
    terminal.stdout.write(json({ reference: name, digest, mediaType, size, images: told, notes }));
    return;
  }
  for (const note of notes) {
    terminal.stderr.write(`ociw: ${oneLine(note)}\n`);
  }
  for (const { platform, missing } of images.filter((image) => image.missing.length > 0)) {
    const more = missing.length > maxToldPaths ? ` and ${missing.length - maxToldPaths} more` : "";
    const paths = missing.slice(0, maxToldPaths).join(", ");
    terminal.stderr.write(
      `ociw: ${oneLine(`no layer for ${platform} has of the record: ${paths}${more}`)}\n`,
    );
  }
  terminal.stdout.write(`${name}\n`);
}
