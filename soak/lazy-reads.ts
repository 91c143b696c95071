import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { BuildKitClient } from "@oci-worker/client";
import { credentialsFor } from "@oci-worker/client/credentials";
import { Secret } from "@oci-worker/credentials/secret";
import { type Channel, unixChannel } from "@oci-worker/grpc/channel";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";
import { RegistryClient } from "@oci-worker/registry/client";
import type { Repository } from "@oci-worker/registry/repository";
import { SourceClient } from "@oci-worker/sources/source-client";
import { createImage, pushImage } from "../e2e/peers/image.ts";
import { startRegistry } from "../e2e/peers/registry.ts";
import { startResolver } from "../e2e/peers/resolver.ts";
import { startSessionService } from "../e2e/peers/session-service.ts";
import { startTokenServer, type TokenServer } from "../e2e/peers/token-server.ts";
import { startWorker } from "../e2e/peers/worker.ts";

/** What goes wrong with the token server, in turns; `well` is the usual answer. */
export type Mishap = "well" | "fails" | "limits" | "refuses" | "hangs" | "hangs up";

export interface SoakOptions {
  readonly durationMs: number;
  readonly mishaps: readonly Mishap[];
}

/** What has happened meanwhile. */
export interface SoakReport {
  readonly reads: number;
  /** Messages of the reads that have failed. */
  readonly failures: readonly string[];
  /** Clients that have come and gone. */
  readonly sessions: number;
  readonly tokens: number;
  /** Tokens that the registry has refused because they had expired. */
  readonly expired: number;
}

/** Tokens live so long, also for the registry, which gives each another 60 seconds (its `Leeway`). */
const lifetimeSeconds = 5;
const registryLeewaySeconds = 60;

/** A session is there for so long with nobody else. */
const sessionMs = 1500;

/** Reads at a time, how many bytes each reads, and how long its reader pauses after it. */
const readers = 4;
const readBytes = 16 * 1024;
const paceMs = 20;

const user = { username: "user", secret: "right-c4n4ry" };

/**
 * Reads a layer by range requests, as a snapshotter does that has it mounted, while tokens expire, clients come and go,
 * and the token server has its mishaps. The client that mounted it is gone before the first read.
 */
export async function soakLazyReads({ durationMs, mishaps }: SoakOptions): Promise<SoakReport> {
  await using tokens = await startTokenServer({
    users: { user: { password: user.secret, repositories: ["team/app"] } },
    lifetimeSeconds,
    // One request for a token, and not two: else mishaps that take turns always hit the second.
    hasOAuth: true,
  });
  tokens.skewSeconds = -registryLeewaySeconds;
  await using registry = await startRegistry({ access: tokens.access });
  const reference = parseReference(`${registry.host}/team/app:1`);
  const { layer, blob } = await pushed(reference);
  await using worker = await startWorker();
  using channel = unixChannel(join(worker.root, "resolver.sock"));
  using registries = new RegistryClient();
  await using sessions = await Sessions.open(worker.client, reference);
  const repository = registries.repository(await lazySource(channel, reference, layer));
  interfere(tokens, mishaps);

  const over = AbortSignal.timeout(durationMs);
  const failures: string[] = [];
  let reads = 0;
  const read = async (reader: number) => {
    while (!over.aborted) {
      const offset = (reads * 7919 + reader * 104_729) % (blob.length - readBytes);
      const bytes = await readRange(repository, layer, offset).catch((error: unknown) => String(error));
      reads += 1;
      if (typeof bytes === "string") {
        failures.push(bytes);
      } else if (!bytes.equals(blob.subarray(offset, offset + readBytes))) {
        failures.push(`the bytes at ${offset} are others`);
      }
      await pause(paceMs);
    }
  };
  const comeAndGo = async () => {
    while (!over.aborted) {
      await sessions.change();
      await pause(sessionMs);
    }
  };
  await Promise.all([comeAndGo(), ...Array.from({ length: readers }, (_, reader) => read(reader))]);
  const expired = registry.log.filter((line) => line.includes("token is expired") || line.includes(" 401 "));
  return {
    reads,
    failures,
    sessions: sessions.count,
    tokens: tokens.issued.length,
    expired: expired.length,
  };
}

/** Pushes an image, by a resolver and a session of its own, and gives one of its layers. */
async function pushed(reference: Reference): Promise<{ layer: Descriptor; blob: Buffer }> {
  await using service = await startSessionService({ pushing: user });
  await using resolver = await startResolver({ sessionAddress: service.address });
  using registries = new RegistryClient();
  const source = await resolver.sources.sourceOf(reference, () => ["pushing"], "push");
  const image = await createImage();
  await pushImage(registries.repository(source), image, reference.tag ?? "latest");
  const { layers } = JSON.parse(image.manifest.toString()) as { layers: Descriptor[] };
  const [[layer], [blob]] = [layers, image.layers];
  if (layer === undefined || blob === undefined) {
    throw new Error("an image without layers");
  }
  return { layer, blob };
}

/** What a snapshotter is told of a layer whose labels name a session that has ended. */
async function lazySource(channel: Channel, reference: Reference, layer: Descriptor) {
  const prefix = "containerd.io/snapshot/remote/stargz";
  const labels = {
    [`${prefix}.reference.id`]: formatReference(reference),
    [`${prefix}.digest.id`]: layer.digest,
    [`${prefix}.session.0.id`]: "of-the-client-that-mounted-it",
  };
  const { sources } = await new SourceClient(channel).sourcesOf(labels);
  const [source] = sources;
  if (source === undefined) {
    throw new Error("the labels name no source");
  }
  return source;
}

async function readRange(repository: Repository, layer: Descriptor, offset: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of repository.fetchBlob({ ...layer, offset, length: readBytes })) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function interfere(tokens: TokenServer, mishaps: readonly Mishap[]): void {
  let requests = 0;
  tokens.interfere = (response, { user: name }) => {
    const mishap = mishaps[requests % mishaps.length] ?? "well";
    requests += 1;
    switch (mishap) {
      case "well":
        return false;
      case "fails":
        response.writeHead(503).end();
        return true;
      case "limits":
        response.writeHead(429, { "retry-after": "1" }).end();
        return true;
      case "refuses":
        // Nobody but those who show no credentials: a refusal of the others would be true.
        if (name !== undefined) {
          return false;
        }
        response.writeHead(401).end();
        return true;
      case "hangs":
        return true;
      case "hangs up":
        response.destroy();
        return true;
    }
  };
}

/** Clients of builds that use an image: one at a time, and two while one takes over from the other. */
class Sessions implements AsyncDisposable {
  readonly #client: BuildKitClient;
  readonly #reference: Reference;
  readonly #directory: AsyncDisposable & { readonly path: string };
  #current: { readonly leave: () => void; readonly left: Promise<unknown> } | undefined;
  count = 0;

  private constructor(
    client: BuildKitClient,
    reference: Reference,
    directory: AsyncDisposable & { readonly path: string },
  ) {
    this.#client = client;
    this.#reference = reference;
    this.#directory = directory;
  }

  /** With the first one attached. */
  static async open(client: BuildKitClient, reference: Reference): Promise<Sessions> {
    const directory = await mkdtempDisposable(join(tmpdir(), "seeds-"));
    const sessions = new Sessions(client, reference, directory);
    await sessions.change();
    return sessions;
  }

  /** Another client comes, and uses the image; then the one before it goes. */
  async change(): Promise<void> {
    const before = this.#current;
    const attached = Promise.withResolvers<void>();
    const leaving = Promise.withResolvers<void>();
    const credentials = credentialsFor(this.#reference.domain, {
      kind: "password",
      username: user.username,
      password: new Secret(user.secret),
    });
    const build = this.#client.build(
      async (gateway) => {
        await gateway.resolveImage(this.#reference);
        attached.resolve();
        await leaving.promise;
        return undefined;
      },
      { credentials, seedDirectory: this.#directory.path },
    );
    build.result.catch(attached.reject);
    await attached.promise;
    this.count += 1;
    this.#current = { leave: leaving.resolve, left: build.result };
    before?.leave();
    await before?.left;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#current?.leave();
    await this.#current?.left;
    await this.#directory[Symbol.asyncDispose]();
  }
}
