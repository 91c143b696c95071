import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, mkdtempDisposable, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { FileSync } from "@oci-worker/api/session/file-sync";
import { unixChannel } from "@oci-worker/grpc/channel";
import { type Implementation, implement } from "@oci-worker/grpc/router";
import { serve } from "@oci-worker/grpc/serve";
import { lsetxattr } from "@oci-worker/libc/xattr";
import { type DirectoryTreeOptions, directoryTree } from "./directory-tree.ts";
import { FileSendPackets } from "./file-send.ts";
import { answering, calling } from "./packet-stream.ts";
import { type ReceivedTree, type ReceiveOptions, receiveTree } from "./receive.ts";
import { contentOf, makeSampleTree } from "./sample-tree.ts";
import { type SentTree, sendTree } from "./send.ts";

/** A directory with `from`, `to` and a socket path, gone afterwards. */
async function workplace() {
  const dir = await mkdtempDisposable(join(tmpdir(), "transfer-"));
  const [from, to] = [join(dir.path, "from"), join(dir.path, "to")];
  await mkdir(from);
  return { from, to, socketPath: join(dir.path, "s"), [Symbol.asyncDispose]: () => dir.remove() };
}

async function withServer(
  socketPath: string,
  implementation: Implementation,
  use: (channel: ReturnType<typeof unixChannel>) => Promise<void>,
): Promise<void> {
  const addresses = [{ path: socketPath, mode: 0o600 }];
  await using _server = await serve({ addresses, implementations: [implementation], drainTimeoutMs: 1000 });
  using channel = unixChannel(socketPath);
  await use(channel);
}

interface TransferOptions {
  readonly send?: DirectoryTreeOptions;
  readonly receive?: Partial<ReceiveOptions>;
}

/** The worker's export to a client's directory: the caller sends. */
async function push(place: Awaited<ReturnType<typeof workplace>>, options: TransferOptions = {}) {
  const received = Promise.withResolvers<ReceivedTree>();
  let sent: SentTree | undefined;
  const service = implement(FileSendPackets, {
    diffCopy: (requests) =>
      answering(
        requests,
        (stream) => receiveTree(stream, place.to, { owner: "sender", ...options.receive }),
        received.resolve,
      ),
  });
  await withServer(place.socketPath, service, async (channel) => {
    const client = createClient(FileSendPackets, channel);
    const tree = directoryTree(place.from, options.send);
    sent = await calling(
      (outgoing, signal) => client.diffCopy(outgoing, { signal }),
      (stream) => sendTree(stream, tree),
    );
  });
  return { sent, received: await received.promise };
}

/** The worker's reading of a client's directory: the caller receives. */
async function pull(place: Awaited<ReturnType<typeof workplace>>, options: TransferOptions = {}) {
  const service = implement(FileSync, {
    diffCopy: (requests) =>
      answering(requests, (stream) => sendTree(stream, directoryTree(place.from, options.send))),
  });
  let received: ReceivedTree | undefined;
  await withServer(place.socketPath, service, async (channel) => {
    const client = createClient(FileSync, channel);
    received = await calling(
      (outgoing, signal) => client.diffCopy(outgoing, { signal }),
      (stream) => receiveTree(stream, place.to, { owner: "sender", ...options.receive }),
    );
  });
  assert(received !== undefined);
  return received;
}

describe("a tree with every kind of entry arrives as it was", () => {
  test("when the caller sends", async () => {
    await using place = await workplace();
    await makeSampleTree(place.from);
    const wanted = contentOf(place.from);
    const { sent, received } = await push(place);
    assert.deepEqual(contentOf(place.to), wanted);
    assert.equal(received.entries, Object.keys(wanted).length);
    assert.deepEqual(received.skippedXattrs, []);
    assert.deepEqual(sent, { entries: received.entries, contentBytes: received.contentBytes });
  });

  test("when the caller receives", async () => {
    await using place = await workplace();
    await makeSampleTree(place.from);
    await pull(place);
    assert.deepEqual(contentOf(place.to), contentOf(place.from));
  });

  test("when it is sent a second time over the first", async () => {
    await using place = await workplace();
    await makeSampleTree(place.from);
    await push(place);
    await push(place);
    assert.deepEqual(contentOf(place.to), contentOf(place.from));
  });
});

test("an empty directory arrives as an empty directory", async () => {
  await using place = await workplace();
  const { received } = await push(place);
  assert.deepEqual(received, { entries: 0, contentBytes: 0, skippedXattrs: [] });
  assert.deepEqual(await readdir(place.to), []);
});

test("very many files arrive, more than are open at a time", async () => {
  await using place = await workplace();
  for (let index = 0; index < 3000; index += 1) {
    const dir = join(place.from, String(index % 30));
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, `f${index}`), String(index).repeat(index % 7));
  }
  await push(place);
  assert.deepEqual(contentOf(place.to), contentOf(place.from));
});

test("what is in the destination and is not sent stays, also a directory that a sent one joins", async () => {
  await using place = await workplace();
  await mkdir(join(place.from, "dir"));
  await writeFile(join(place.from, "dir/new"), "new");
  await writeFile(join(place.from, "file"), "sent");
  await mkdir(join(place.to, "dir"), { recursive: true });
  await writeFile(join(place.to, "dir/old"), "old");
  await writeFile(join(place.to, "file"), "replaced");
  await push(place);
  assert.deepEqual((await readdir(join(place.to, "dir"))).sort(), ["new", "old"]);
  assert.equal(await readFile(join(place.to, "file"), "utf8"), "sent");
});

test("a link in the destination is replaced, not followed", async () => {
  await using place = await workplace();
  await mkdir(join(place.from, "dir"));
  await writeFile(join(place.from, "dir/file"), "sent");
  await writeFile(join(place.from, "file"), "sent");
  await mkdir(place.to);
  await mkdir(join(place.to, "..", "outside"));
  await writeFile(join(place.to, "..", "kept"), "kept");
  await symlink("../outside", join(place.to, "dir"));
  await symlink("../kept", join(place.to, "file"));
  await push(place);
  assert.deepEqual(await readdir(join(place.to, "..", "outside")), []);
  assert.equal(await readFile(join(place.to, "..", "kept"), "utf8"), "kept");
  assert.deepEqual(contentOf(place.to), contentOf(place.from));
});

test("a file does not take the place of a directory in which somebody keeps something", async () => {
  await using place = await workplace();
  await writeFile(join(place.from, "thing"), "a file");
  await writeFile(join(place.from, "another"), "gone again when the transfer fails");
  await mkdir(join(place.to, "thing"), { recursive: true });
  await writeFile(join(place.to, "thing/kept"), "kept");
  await assert.rejects(pull(place), /Cannot write "thing": a directory is in its place/);
  assert.equal(await readFile(join(place.to, "thing/kept"), "utf8"), "kept");
  assert.deepEqual(await readdir(place.to), ["thing"]);
});

test("a receiver may keep everything its own", async () => {
  await using place = await workplace();
  await makeSampleTree(place.from);
  await push(place, { receive: { owner: "self" } });
  const owners = Object.values(contentOf(place.to)).map(({ uid }) => uid);
  assert.deepEqual(new Set(owners), new Set([BigInt(process.getuid?.() ?? -1)]));
});

test("a sender may tell another owner than the real one", async () => {
  await using place = await workplace();
  await makeSampleTree(place.from);
  await push(place, { send: { owner: { uid: 7, gid: 8 } } });
  const owners = Object.values(contentOf(place.to)).map(({ uid, gid }) => `${uid}:${gid}`);
  assert.deepEqual(new Set(owners), new Set(["7:8"]));
});

test("attributes that steer overlayfs are neither sent nor set", async () => {
  await using place = await workplace();
  await writeFile(join(place.from, "file"), "");
  lsetxattr(join(place.from, "file"), "trusted.overlay.opaque", Buffer.from("y"));
  lsetxattr(join(place.from, "file"), "user.overlay.opaque", Buffer.from("y"));
  lsetxattr(join(place.from, "file"), "user.fine", Buffer.from("y"));
  await push(place);
  assert.deepEqual(contentOf(place.to)["file"]?.["xattrs"], [["user.fine", "79"]]);
});

test("a filter leaves out entries, but keeps the directories of what it lets through", async () => {
  await using place = await workplace();
  for (const dir of ["keep", "skip/deep", "skip/none", "prune"]) {
    await mkdir(join(place.from, dir), { recursive: true });
    await writeFile(join(place.from, dir, "file.txt"), dir);
    await writeFile(join(place.from, dir, "other"), dir);
  }
  const filter = (path: string, isDirectory: boolean) => {
    if (path.startsWith("prune")) {
      return "prune";
    }
    return path === "keep" || (!isDirectory && path.endsWith("deep/file.txt")) ? "send" : "skip";
  };
  await push(place, { send: { filter } });
  assert.deepEqual(Object.keys(contentOf(place.to)), ["keep", "skip", "skip/deep", "skip/deep/file.txt"]);
});

test("a socket is left out", async () => {
  await using place = await workplace();
  const server = createServer().listen(join(place.from, "socket"));
  await once(server, "listening");
  await writeFile(join(place.from, "file"), "");
  await push(place);
  server.close();
  assert.deepEqual(await readdir(place.to), ["file"]);
});

test("a name that is no UTF-8 is told, not left out", async () => {
  await using place = await workplace();
  await writeFile(join(place.from, "\ufffd"), "this one is");
  await push(place);
  assert.deepEqual(await readdir(place.to), ["\ufffd"]);
  await writeFile(Buffer.concat([Buffer.from(`${place.from}/`), Buffer.from([0xff])]), "");
  await assert.rejects(pull(place), /Cannot send ".*" in "\.": its name is no UTF-8/);
});

test("a call that its maker gives up leaves nothing half done", async () => {
  await using place = await workplace();
  await mkdir(join(place.from, "dir"));
  for (let index = 0; index < 50; index += 1) {
    await writeFile(join(place.from, "dir", String(index)), Buffer.alloc(200_000));
  }
  const abort = new AbortController();
  const service = implement(FileSync, {
    diffCopy: (requests) => answering(requests, (stream) => sendTree(stream, directoryTree(place.from))),
  });
  await withServer(place.socketPath, service, async (channel) => {
    const client = createClient(FileSync, channel);
    const receiving = calling(
      (outgoing, signal) => client.diffCopy(outgoing, { signal }),
      (stream) =>
        receiveTree(stream, place.to, {
          owner: "self",
          onProgress: (bytes) => {
            if (bytes > 1_000_000) {
              abort.abort();
            }
          },
        }),
      abort.signal,
    );
    await assert.rejects(receiving, /canceled/i);
  });
  assert.deepEqual(await readdir(place.to), []);
});
