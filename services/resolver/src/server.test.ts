import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtempDisposable, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "@oci-worker/api/grpc/health";
import { SessionAuthService } from "@oci-worker/api/ociworker/session";
import { Access, Capability, HostOutcome, SkipReason, SourceService } from "@oci-worker/api/ociworker/source";
import { unixChannel } from "@oci-worker/grpc/channel";
import { implement } from "@oci-worker/grpc/router";
import { serve } from "@oci-worker/grpc/serve";
import { digestOf } from "@oci-worker/oci/digest";
import fc from "fast-check";
import { pino } from "pino";
import { type Config, parseConfig } from "./config.ts";
import { serveResolver } from "./server.ts";

const stargz = "containerd.io/snapshot/remote/stargz";
const digest = digestOf("layer");
const log = pino({ level: "silent" });

/** A resolver on a socket of its own, with clients for it. */
async function serving(settings: Readonly<Record<string, unknown>> = {}) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "resolver-")));
  const address = join(directory.path, "sockets", "resolver.sock");
  const config: Config = parseConfig({
    address,
    dockerConfig: join(directory.path, "config.json"),
    hostsDir: "",
    ...settings,
  });
  undo.use(await serveResolver(config, [], log));
  const channel = undo.use(unixChannel(address));
  const owned = undo.move();
  return {
    address,
    sources: createClient(SourceService, channel),
    health: createClient(Health, channel),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A worker whose live sessions are these. */
async function workerWith(...live: readonly string[]) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "worker-")));
  const address = join(directory.path, "session.sock");
  const handlers = {
    listSessions: ({ sessionIds }: { sessionIds: string[] }) => ({
      sessions: live
        .filter((id) => sessionIds.includes(id))
        .map((id) => ({ id, attachedAt: timestampFromMs(1) })),
    }),
  };
  undo.use(
    await serve({
      addresses: [{ path: address, mode: 0o600 }],
      implementations: [implement(SessionAuthService, handlers)],
    }),
  );
  const owned = undo.move();
  return { address, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function reference(text: string, sessionIds: string[] = [], access: Access = Access.UNSPECIFIED) {
  return { query: { case: "reference" as const, value: { reference: text, sessionIds } }, access };
}

function labels(groups: Readonly<Record<string, readonly string[]>>) {
  const all = Object.entries(groups).flatMap(([id, sessionIDs]) => [
    [`${stargz}.reference.${id}`, `registry.example/${id}:1`],
    [`${stargz}.digest.${id}`, digest],
    ...sessionIDs.map((sessionID, index) => [`${stargz}.session.${index}.${id}`, sessionID]),
  ]);
  return { query: { case: "labels" as const, value: { labels: Object.fromEntries(all) } } };
}

function fails(promise: Promise<unknown>, code: Code, message: RegExp): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof ConnectError, String(error));
    assert.equal(Code[error.code], Code[code], error.rawMessage);
    assert.match(error.rawMessage, message);
    return true;
  });
}

describe("ResolveSources", () => {
  test("says where an image is served", async () => {
    await using resolver = await serving({
      registry: { "docker.io": { mirrors: ["mirror.example"] }, "mirror.example": { ca: ["/ca.pem"] } },
    });
    const { sources, skipped } = await resolver.sources.resolveSources(reference("alpine", ["one"]));
    const [source, ...others] = sources;
    assert.ok(source !== undefined);
    assert.deepEqual([others, skipped], [[], []]);
    assert.deepEqual(
      [source.reference, source.repository, source.sessionIds, source.target],
      ["docker.io/library/alpine:latest", "library/alpine", ["one"], undefined],
    );
    assert.deepEqual(
      source.hosts.map(({ host, path, capabilities, tls, upstreamNamespace }) => [
        host,
        path,
        capabilities,
        tls?.caFiles,
        upstreamNamespace,
      ]),
      [
        ["mirror.example", "/v2", [Capability.PULL, Capability.RESOLVE], ["/ca.pem"], "docker.io"],
        [
          "registry-1.docker.io",
          "/v2",
          [Capability.PULL, Capability.RESOLVE, Capability.PUSH],
          undefined,
          "",
        ],
      ],
    );
  });

  test("leaves mirrors out for pushing", async () => {
    await using resolver = await serving({ registry: { "docker.io": { mirrors: ["mirror.example"] } } });
    const { sources } = await resolver.sources.resolveSources(reference("alpine", [], Access.PUSH));
    assert.deepEqual(
      sources[0]?.hosts.map(({ host }) => host),
      ["registry-1.docker.io"],
    );
  });

  test("puts layers first whose sessions are alive", async () => {
    await using worker = await workerWith("alive");
    await using resolver = await serving({ sessionAddress: worker.address });
    const { sources } = await resolver.sources.resolveSources(
      labels({ a: ["dead"], b: ["dead", "alive"], c: [] }),
    );
    assert.deepEqual(
      sources.map(({ id, reference: name }) => [id, name]),
      [
        ["b", "registry.example/b:1"],
        ["a", "registry.example/a:1"],
        ["c", "registry.example/c:1"],
      ],
    );
    const [source] = sources;
    assert.equal(source?.target?.digest, digest);
    assert.deepEqual(
      source?.layers.map((layer) => layer.digest),
      [digest],
    );
    assert.deepEqual(source?.sessionIds, ["dead", "alive"]);
  });

  test("does without the worker where it cannot be asked", async () => {
    await using resolver = await serving({ sessionAddress: "/run/no-such-directory/session.sock" });
    const { sources } = await resolver.sources.resolveSources(labels({ b: ["x"], a: ["y"] }));
    assert.deepEqual(
      sources.map(({ id }) => id),
      ["a", "b"],
    );
  });

  test("tells what it has skipped", async () => {
    await using resolver = await serving();
    const value = { labels: { [`${stargz}.reference.x`]: "Bad", [`${stargz}.digest.x`]: digest } };
    const { sources, skipped } = await resolver.sources.resolveSources({ query: { case: "labels", value } });
    assert.deepEqual(sources, []);
    assert.deepEqual(
      skipped.map(({ id, label, reason }) => [id, label, reason]),
      [["x", `${stargz}.reference.x`, SkipReason.BAD_REFERENCE]],
    );
    assert.match(skipped[0]?.message ?? "", /upper-case letters/);
  });

  test("follows a change of the mirrors of containerd's folder, and a bad file costs its own images alone", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "certs.d-"));
    await using resolver = await serving({ hostsDir: directory.path });
    const hostsToml = join(directory.path, "registry.example", "hosts.toml");
    await mkdir(dirname(hostsToml));
    const { query } = labels({ a: [], b: [] });
    const value = { labels: { ...query.value.labels, [`${stargz}.reference.b`]: "other.example/b:1" } };
    const resolve = () => resolver.sources.resolveSources({ query: { case: "labels", value } });
    for (const mirror of ["one.example", "two.example"]) {
      await writeFile(hostsToml, `[host."https://${mirror}"]`);
      const { sources, skipped } = await resolve();
      assert.deepEqual(
        sources.map(({ id, hosts }) => [id, hosts[0]?.host]),
        [
          ["a", mirror],
          ["b", "other.example"],
        ],
      );
      assert.deepEqual(skipped, []);
    }
    await writeFile(hostsToml, "host = 1");
    const { sources, skipped } = await resolve();
    assert.deepEqual(
      sources.map(({ id }) => id),
      ["b"],
    );
    assert.deepEqual(
      skipped.map(({ id, label, reason }) => [id, label, reason]),
      [["a", `${stargz}.reference.a`, SkipReason.BAD_HOSTS]],
    );
    assert.match(skipped[0]?.message ?? "", /Cannot use .*hosts\.toml: host: want a table$/);
    const image = resolver.sources.resolveSources(reference("registry.example/a"));
    await fails(image, Code.Unavailable, /hosts\.toml: host: want a table$/);
  });

  test("resolves 1000 images in one call, and stands values of 64 KiB", async () => {
    await using resolver = await serving();
    const ids = Array.from({ length: 1000 }, (_, index) => `id${index}`);
    const { query } = labels(Object.fromEntries(ids.map((id) => [id, ["dead"]])));
    const long = {
      [`${stargz}.layers.id7`]: "x".repeat(64 * 1024),
      [`${stargz}.reference.id8`]: "y".repeat(64 * 1024),
    };
    const value = { labels: { ...query.value.labels, ...long } };
    const { sources, skipped } = await resolver.sources.resolveSources({ query: { case: "labels", value } });
    assert.deepEqual(
      sources.map(({ id }) => id),
      ids.toSorted().filter((id) => id !== "id8"),
    );
    assert.deepEqual(skipped.map(({ id, reason }) => [id, reason]).sort(), [
      ["id7", SkipReason.BAD_LAYERS],
      ["id8", SkipReason.BAD_REFERENCE],
    ]);
    assert.ok(skipped.every(({ message }) => message.length < 2000));
  });

  test("refuses what makes no sense", async () => {
    await using resolver = await serving();
    await fails(resolver.sources.resolveSources({}), Code.InvalidArgument, /want labels or a reference/);
    await fails(resolver.sources.resolveSources(reference("")), Code.InvalidArgument, /it is empty/);
    const unknown = { ...reference("alpine"), access: 7 as Access };
    await fails(resolver.sources.resolveSources(unknown), Code.InvalidArgument, /access is 7/);
    const others = {
      query: { case: "labels" as const, value: { labels: { "containerd.io/gc.root": "x" } } },
    };
    const none =
      /none of the 1 labels is about them, want containerd\.io\/snapshot\/remote\/stargz\.reference/;
    await fails(resolver.sources.resolveSources(others), Code.InvalidArgument, none);
  });
});

describe("Authorize", () => {
  test("knows nothing before a registry has asked for anything", async () => {
    await using resolver = await serving();
    const { sources } = await resolver.sources.resolveSources(reference("registry.example/app"));
    const { handle = "", hosts = [] } = sources[0] ?? {};
    const answer = await resolver.sources.authorize({ handle, host: hosts[0]?.host ?? "" });
    assert.deepEqual([answer.authorization, answer.expiresAt, answer.keychain], ["", undefined, ""]);
  });

  test("refuses what makes no sense", async () => {
    await using resolver = await serving();
    const { sources } = await resolver.sources.resolveSources(reference("registry.example/app"));
    const request = { handle: sources[0]?.handle ?? "", host: "registry.example", challenges: ["Basic"] };
    const refuse = (change: object, message: RegExp) =>
      fails(resolver.sources.authorize({ ...request, ...change }), Code.InvalidArgument, message);
    await refuse({ handle: "x" }, /the handle is not one of ours/);
    await refuse(
      { host: "evil.example" },
      /it does not serve registry\.example, want one of registry\.example/,
    );
    await refuse({ challenges: ["Bearer"] }, /its challenge is "Bearer"/);
    await refuse({ refusedAuthorizationSha256: "abc" }, /64 lower-case hex digits/);
    await refuse({ extraScopes: Array.from({ length: 17 }, () => "a:b:c") }, /at most 16 extra scopes/);
  });

  test("answers or refuses whatever it is asked, and says why", async () => {
    await using resolver = await serving({ tokenTimeoutMs: 1 });
    const { sources } = await resolver.sources.resolveSources(reference("127.0.0.1:1/app"));
    const handle = sources[0]?.handle ?? "";
    const piece = fc.constantFrom(
      ...[
        "Bearer ",
        "Basic ",
        'realm="',
        "http://127.0.0.1:1/",
        '"',
        ",",
        'scope="',
        "a:b:c",
        "\\",
        " ",
        "=",
        "é",
      ],
    );
    const challenge = fc.oneof(
      fc.string({ unit: "binary", maxLength: 40 }),
      fc.array(piece).map((parts) => parts.join("")),
    );
    const request = fc.record({
      handle: fc.oneof({ weight: 5, arbitrary: fc.constant(handle) }, fc.string(), fc.base64String()),
      host: fc.oneof({ weight: 5, arbitrary: fc.constant("127.0.0.1:1") }, fc.string()),
      challenges: fc.array(challenge, { maxLength: 20 }),
      refusedAuthorizationSha256: fc.oneof({ weight: 5, arbitrary: fc.constant("") }, fc.string()),
      extraScopes: fc.array(fc.string(), { maxLength: 20 }),
    });
    const honest = [Code.InvalidArgument, Code.Unauthenticated, Code.Unavailable];
    await fc.assert(
      fc.asyncProperty(request, async (input) => {
        try {
          await resolver.sources.authorize(input);
        } catch (error) {
          assert.ok(error instanceof ConnectError && honest.includes(error.code), String(error));
          assert.match(error.rawMessage, /^Cannot authorize/);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("tells that there are no credentials from that nobody could be asked for them", async () => {
    await using without = await serving();
    await using broken = await serving({ sessionAddress: "/run/no-such-directory/session.sock" });
    for (const [resolver, code, message] of [
      [without, Code.Unauthenticated, /for registry\.example\/app:latest: no basic auth credentials$/],
      [broken, Code.Unavailable, /session: Cannot reach \/run\/no-such-directory\/session\.sock/],
    ] as const) {
      const { sources } = await resolver.sources.resolveSources(reference("registry.example/app", ["one"]));
      const request = { handle: sources[0]?.handle ?? "", host: "registry.example", challenges: ["Basic"] };
      await fails(resolver.sources.authorize(request), code, message);
    }
  });
});

describe("ExplainSources", () => {
  test("tells what became of images, the latest first, and of one alone", async () => {
    await using resolver = await serving({
      registry: { "registry.example": { mirrors: ["mirror.example"] } },
    });
    const { sources } = await resolver.sources.resolveSources(reference("registry.example/app"));
    const { handle = "" } = sources[0] ?? {};
    await resolver.sources.authorize({ handle, host: "mirror.example" });
    await resolver.sources.reportOutcome({ handle, host: "mirror.example", failure: "HTTP 404" });
    const refused = resolver.sources.authorize({ handle, host: "registry.example", challenges: ["Basic"] });
    await fails(refused, Code.Unauthenticated, /no basic auth credentials/);
    await resolver.sources.resolveSources(reference("alpine", [], Access.PUSH));

    const { explanations } = await resolver.sources.explainSources({});
    assert.deepEqual(
      explanations.map(({ reference: name, access }) => [name, access]),
      [
        ["docker.io/library/alpine:latest", Access.PUSH],
        ["registry.example/app:latest", Access.PULL],
      ],
    );
    const { explanations: ofOne } = await resolver.sources.explainSources({
      reference: "registry.example/app",
    });
    assert.equal(ofOne.length, 1);
    assert.ok(ofOne[0]?.resolvedAt !== undefined);
    assert.deepEqual(
      ofOne[0]?.hosts.map(({ host, upstreamNamespace, outcome, failure, challenge }) => [
        host,
        upstreamNamespace,
        outcome,
        failure,
        challenge,
      ]),
      [
        ["mirror.example", "registry.example", HostOutcome.FAILED, "HTTP 404", ""],
        ["registry.example", "", HostOutcome.FAILED, "no credential opens it", "basic"],
      ],
    );
  });

  test("refuses what makes no sense, and knows nothing of what nobody has asked for", async () => {
    await using resolver = await serving();
    assert.deepEqual((await resolver.sources.explainSources({ reference: "alpine" })).explanations, []);
    const { sources } = await resolver.sources.resolveSources(reference("registry.example/app"));
    const { handle = "" } = sources[0] ?? {};
    for (const request of [
      { handle: "x", host: "registry.example" },
      { handle, host: "evil.example" },
    ]) {
      await fails(resolver.sources.reportOutcome(request), Code.InvalidArgument, /Cannot authorize/);
    }
    await fails(resolver.sources.explainSources({ reference: "Bad" }), Code.InvalidArgument, /upper-case/);
  });
});

describe("the socket", () => {
  test("says whether the service is there", async () => {
    await using resolver = await serving();
    for (const service of ["", "ociworker.source.v1.SourceService"]) {
      assert.equal((await resolver.health.check({ service })).status, ServingStatus.SERVING);
    }
  });

  test("is for its own user alone, even where its file lets others in", async () => {
    await using resolver = await serving();
    assert.equal((await stat(resolver.address)).mode & 0o777, 0o600);
    await chmod(resolver.address, 0o666);
    // As nobody: whoever is let in gets the settings of HTTP/2, and who is not gets nothing.
    const script = `
      use Socket; $SIG{PIPE} = "IGNORE"; $> = 65534; $< = 65534;
      socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; connect($s, sockaddr_un($ARGV[0])) or die "connect: $!";
      syswrite($s, "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0");
      print "read ", sysread($s, my $b, 1) // 0, "\\n";
    `;
    const asRoot = script.replace("$> = 65534; $< = 65534;", "");
    const connect = async (text: string) =>
      (await promisify(execFile)("perl", ["-e", text, resolver.address])).stdout.trim();
    // The directories of a test are closed to others, so the way to the socket is opened, too.
    await chmod(join(resolver.address, "../.."), 0o711);
    assert.equal(await connect(script), "read 0");
    assert.equal(await connect(asRoot), "read 1");
  });
});
