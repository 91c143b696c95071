import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtempDisposable, rename, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { Access, type Source } from "@oci-worker/api/ociworker/source";
import { ServiceError, UnauthenticatedError, UnavailableError } from "@oci-worker/errdefs";
import { RegistryClient } from "@oci-worker/registry/client";
import type { Repository } from "@oci-worker/registry/repository";
import { createAuthority } from "@oci-worker/registry/test-certificates";
import { createImage, pushImage } from "./peers/image.ts";
import { startRegistry } from "./peers/registry.ts";
import { type ResolverPeer, startResolver } from "./peers/resolver.ts";
import { type FakeClient, startSessionService } from "./peers/session-service.ts";
import { startTokenServer } from "./peers/token-server.ts";

/** Passwords that nobody else has, to be looked for where they must not be. */
const right = "right-c4n4ry";
const wrong = "wrong-c4n4ry";
const user = { username: "user", secret: right };
const users = { user: { password: right, identityToken: "identity-c4n4ry", repositories: ["team/app"] } };

async function sourceOf(
  { client }: ResolverPeer,
  reference: string,
  sessionIds: readonly string[] = [],
  access: Access = Access.PULL,
): Promise<Source> {
  const { sources } = await client.resolveSources({
    query: { case: "reference", value: { reference, sessionIds: [...sessionIds] } },
    access,
  });
  const [source] = sources;
  assert.ok(source !== undefined && sources.length === 1);
  return source;
}

/** A repository as the resolver says that it is to be reached. */
async function open(
  registries: RegistryClient,
  resolver: ResolverPeer,
  reference: string,
  sessionIds: readonly string[] = [],
  access: Access = Access.PULL,
): Promise<Repository> {
  const source = await sourceOf(resolver, reference, sessionIds, access);
  return registries.repository(resolver.sources.open(source));
}

/** Waits for nothing, so that a server that is down is found out at once. */
function registryClient(): RegistryClient {
  return new RegistryClient({ delay: () => Promise.resolve() });
}

/** What is true of every test: no secret in anything that the resolver wrote. */
function assertNoSecret({ log }: ResolverPeer): void {
  assert.ok(log.length > 1);
  assert.doesNotMatch(log.join("\n"), /c4n4ry|eyJ|dXNlcjp/);
}

type ErrorClass = new (...parameters: never[]) => ServiceError;

function fails(promise: Promise<unknown>, kind: ErrorClass, message: RegExp): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof kind, String(error));
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /c4n4ry/);
    return true;
  });
}

async function dockerConfig(directory: string, config: object): Promise<void> {
  await writeFile(join(directory, "config.json"), JSON.stringify(config));
}

describe("a registry with a password", () => {
  const access = { kind: "password", username: "user", password: right } as const;

  test("is opened by the session of the build, for pushing and pulling", async () => {
    await using registry = await startRegistry({ access });
    await using sessions = await startSessionService({ one: user });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    const name = `${registry.host}/team/app:1`;
    const image = await createImage();
    const pushed = await pushImage(await open(registries, resolver, name, ["one"], Access.PUSH), image, "1");
    const repository = await open(registries, resolver, name, ["one"]);
    assert.deepEqual(await repository.resolve({ tag: "1" }), pushed);
    const found = resolver.log
      .map((line) => JSON.parse(line))
      .find(({ msg }) => msg === "authorization found");
    assert.equal(found?.keychain, "session");
    assert.equal(found?.host, registry.host);
    assertNoSecret(resolver);
  });

  test("says that a password is wrong, and takes the right one after it", async () => {
    await using registry = await startRegistry({ access });
    await using sessions = await startSessionService({ bad: { ...user, secret: wrong } });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    const name = `${registry.host}/team/app:1`;
    await fails(
      (await open(registries, resolver, name, ["bad"])).resolve({ tag: "1" }),
      UnauthenticatedError,
      /^Cannot authorize at 127\.0\.0\.1:\d+ for 127\.0\.0\.1:\d+\/team\/app:1: session: the registry refused these credentials$/,
    );
    sessions.clients.set("good", user);
    const repository = await open(registries, resolver, name, ["bad", "good"], Access.PUSH);
    await pushImage(repository, await createImage(), "1");
    assertNoSecret(resolver);
  });

  test("is opened by the one client of many that has the right password", async () => {
    await using registry = await startRegistry({ access });
    const ids = Array.from({ length: 8 }, (_, index) => `bad-${index}`);
    await using sessions = await startSessionService({
      ...Object.fromEntries(ids.map((id) => [id, { ...user, secret: `${wrong}-${id}` }])),
      good: user,
    });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    const name = `${registry.host}/team/app:1`;
    const repository = await open(registries, resolver, name, [...ids, "good"], Access.PUSH);
    await pushImage(repository, await createImage(), "1");
    assertNoSecret(resolver);
  });

  test("is not opened by sessions that have ended, nor by those of other builds", async () => {
    await using registry = await startRegistry({ access });
    const name = `${registry.host}/team/app:1`;
    await using sessions = await startSessionService({ other: { ...user, references: [name] } });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    const repository = await open(registries, resolver, name, ["gone"]);
    await fails(repository.resolve({ tag: "1" }), UnavailableError, /no active sessions/);
    const none = await open(registries, resolver, name);
    await fails(none.resolve({ tag: "1" }), UnauthenticatedError, /no basic auth credentials$/);
    assert.deepEqual(sessions.calls, []);
  });

  test("is opened by a docker config that comes, changes and goes", async () => {
    await using registry = await startRegistry({ access });
    await using directory = await mkdtempDisposable(join(tmpdir(), "docker-"));
    await using resolver = await startResolver({ environment: { DOCKER_CONFIG: directory.path } });
    using registries = registryClient();
    const name = `${registry.host}/team/app:1`;
    const push = async () => {
      const repository = await open(registries, resolver, name, [], Access.PUSH);
      await repository.pushBlob({
        digest: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" as never,
        body: { sizeBytes: 0, open: () => [] },
      });
    };
    await fails(push(), UnauthenticatedError, /no basic auth credentials/);
    const auth = (password: string) => Buffer.from(`user:${password}`).toString("base64");
    await dockerConfig(directory.path, { auths: { [registry.host]: { auth: auth(wrong) } } });
    await fails(push(), UnauthenticatedError, /docker-config: the registry refused these credentials/);
    await dockerConfig(directory.path, {
      auths: { [`https://${registry.host}/v1/`]: { auth: auth(right) } },
    });
    await push();
    await writeFile(join(directory.path, "config.json"), `{"auths": {"x": "${right}"}}`);
    await fails(
      push(),
      UnavailableError,
      /docker-config: Cannot use .*config\.json: .*auths\.x: it is a string/,
    );
    assertNoSecret(resolver);
  });

  test("is opened by a credential helper", async () => {
    await using registry = await startRegistry({ access });
    await using directory = await mkdtempDisposable(join(tmpdir(), "docker-"));
    const helper = join(directory.path, "docker-credential-test");
    const answer = JSON.stringify({ ServerURL: registry.host, Username: "user", Secret: right });
    await writeFile(
      helper,
      `#!/bin/sh\n[ "$1" = get ] && [ "$(cat)" = "${registry.host}" ] && echo '${answer}'\n`,
    );
    await chmod(helper, 0o700);
    await dockerConfig(directory.path, { credHelpers: { [registry.host]: "test" } });
    const environment = { DOCKER_CONFIG: directory.path, PATH: `${directory.path}:${process.env["PATH"]}` };
    await using resolver = await startResolver({ environment });
    using registries = registryClient();
    const repository = await open(registries, resolver, `${registry.host}/team/app:1`, [], Access.PUSH);
    await pushImage(repository, await createImage(), "1");
    assertNoSecret(resolver);
  });

  test("is opened by a pull secret that the kubelet exchanges", async () => {
    await using registry = await startRegistry({ access });
    await using volume = await mkdtempDisposable(join(tmpdir(), "pull-secrets-"));
    await using resolver = await startResolver({ config: `pullSecretsDir = "${volume.path}"` });
    using registries = registryClient();
    const at = (name: string) => join(volume.path, name);
    const push = async () => {
      const repository = await open(registries, resolver, `${registry.host}/team/app:1`, [], Access.PUSH);
      return await pushImage(repository, await createImage(), "1");
    };
    await fails(push(), UnauthenticatedError, /no basic auth credentials/);
    await symlink(join("..data", ".dockerconfigjson"), at(".dockerconfigjson"));
    const mount = async (version: string, password: string) => {
      const auth = Buffer.from(`user:${password}`).toString("base64");
      await mkdir(at(version));
      const secret = JSON.stringify({ auths: { [`${registry.host}/team`]: { auth } } });
      await writeFile(join(at(version), ".dockerconfigjson"), secret);
      await symlink(version, at("..data_tmp"));
      await rename(at("..data_tmp"), at("..data"));
    };
    await mount("..old", wrong);
    await fails(push(), UnauthenticatedError, /kubernetes: the registry refused these credentials/);
    await mount("..new", right);
    await push();
    const stranger = await open(registries, resolver, `${registry.host}/other/app:1`, [], Access.PUSH);
    await fails(stranger.resolve({ tag: "1" }), UnauthenticatedError, /no basic auth credentials/);
    assertNoSecret(resolver);
  });

  test("is opened by an entry of the settings whose secret is changed", async () => {
    await using registry = await startRegistry({ access });
    await using directory = await mkdtempDisposable(join(tmpdir(), "static-"));
    const passwordFile = join(directory.path, "password");
    const config = `[[static]]\nregistry = "${registry.host}"\nusername = "user"\npasswordFile = "${passwordFile}"`;
    await using resolver = await startResolver({ config });
    using registries = registryClient();
    const push = async () => {
      const repository = await open(registries, resolver, `${registry.host}/team/app:1`, [], Access.PUSH);
      return await pushImage(repository, await createImage(), "1");
    };
    await fails(push(), UnavailableError, /static: Cannot use the credentials for .*: there is no file/);
    await writeFile(passwordFile, `${wrong}\n`);
    await fails(push(), UnauthenticatedError, /static: the registry refused these credentials/);
    await writeFile(passwordFile, `${right}\n`);
    await push();
    assertNoSecret(resolver);
  });

  test("is opened after a restart of the resolver with what was asked for before", async () => {
    await using registry = await startRegistry({ access });
    await using sessions = await startSessionService({ one: user });
    await using directory = await mkdtempDisposable(join(tmpdir(), "resolver-"));
    const address = join(directory.path, "resolver.sock");
    using registries = registryClient();
    let source: Source;
    {
      await using resolver = await startResolver({ address, sessionAddress: sessions.address });
      source = await sourceOf(resolver, `${registry.host}/team/app:1`, ["one"], Access.PUSH);
    }
    await using resolver = await startResolver({ address, sessionAddress: sessions.address });
    const repository = registries.repository(resolver.sources.open(source));
    await pushImage(repository, await createImage(), "1");
  });

  test("that is down is told as such", async () => {
    await using registry = await startRegistry({ access });
    await using sessions = await startSessionService({ one: user });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    await registry.stop();
    const repository = await open(registries, resolver, `${registry.host}/team/app:1`, ["one"]);
    await fails(repository.resolve({ tag: "1" }), UnavailableError, /it refuses connections/);
  });
});

describe("a registry with tokens", () => {
  /** Pushes something to team/app, with what the sessions know. */
  async function push(registries: RegistryClient, resolver: ResolverPeer, host: string, ...ids: string[]) {
    const repository = await open(registries, resolver, `${host}/team/app:1`, ids, Access.PUSH);
    return await pushImage(repository, await createImage(), "1");
  }

  test("is opened with the password of a session; the token serves until it is old", async () => {
    await using tokens = await startTokenServer({ users });
    await using registry = await startRegistry({ access: tokens.access });
    await using sessions = await startSessionService({ one: user });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    await push(registries, resolver, registry.host, "one");
    await push(registries, resolver, registry.host, "one");
    assert.deepEqual(tokens.requests, [
      { method: "GET", user: "user", scopes: ["repository:team/app:pull,push"], service: "test registry" },
    ]);
    assertNoSecret(resolver);
  });

  test("is opened with an identity token at the OAuth2 endpoint", async () => {
    await using tokens = await startTokenServer({ users, hasOAuth: true });
    await using registry = await startRegistry({ access: tokens.access });
    await using sessions = await startSessionService({ one: { username: "", secret: "identity-c4n4ry" } });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    await push(registries, resolver, registry.host, "one");
    assert.deepEqual(
      tokens.requests.map(({ method, user: name }) => [method, name]),
      [["POST", "user"]],
    );
    assertNoSecret(resolver);
  });

  test("is read by anybody where it is public", async () => {
    await using tokens = await startTokenServer({ users, publicRepositories: ["team/app"] });
    await using registry = await startRegistry({ access: tokens.access });
    await using sessions = await startSessionService({ one: user });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    const pushed = await push(registries, resolver, registry.host, "one");
    const repository = await open(registries, resolver, `${registry.host}/team/app:1`);
    assert.deepEqual(await repository.resolve({ tag: "1" }), pushed);
    assert.equal(tokens.requests.at(-1)?.user, undefined);
  });

  test("refuses a wrong password, and who is nobody", async () => {
    await using tokens = await startTokenServer({ users });
    await using registry = await startRegistry({ access: tokens.access });
    await using sessions = await startSessionService({ bad: { ...user, secret: wrong } });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    await fails(
      push(registries, resolver, registry.host, "bad"),
      UnauthenticatedError,
      /session: Cannot get token from 127\.0\.0\.1:\d+: it answered HTTP 401; anonymous: the registry refused these credentials/,
    );
    assertNoSecret(resolver);
  });

  test("is opened by a client that fetches its tokens itself and shows no password", async () => {
    await using tokens = await startTokenServer({ users });
    await using registry = await startRegistry({ access: tokens.access });
    const client: FakeClient = { ...user, seed: "user's" };
    await using sessions = await startSessionService({ one: client, same: client });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    await push(registries, resolver, registry.host, "one");
    await push(registries, resolver, registry.host, "same");
    // The second session has proved to be the same user, so the token of the first is its own.
    assert.equal(tokens.requests.length, 1);
    assert.deepEqual(sessions.calls, [
      "one GetTokenAuthority",
      "one VerifyTokenAuthority",
      "one FetchToken",
      "same GetTokenAuthority",
      "same VerifyTokenAuthority",
    ]);
    assertNoSecret(resolver);
  });

  test("gives the token of one user to no other, whatever that one says", async () => {
    await using tokens = await startTokenServer({ users });
    await using registry = await startRegistry({ access: tokens.access });
    const client: FakeClient = { ...user, seed: "user's" };
    const stranger = { ...client, username: "", secret: "" };
    await using sessions = await startSessionService({
      one: client,
      // Shows the key of the user without having it.
      impostor: { ...stranger, isImpostor: true },
      // Is who it says, and that is nobody.
      stranger: { ...stranger, seed: "stranger's" },
      // Has another password.
      liar: { username: "user", secret: wrong },
    });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    await push(registries, resolver, registry.host, "one");
    await fails(
      push(registries, resolver, registry.host, "impostor"),
      UnauthenticatedError,
      /session: .*has not proved that it holds the key/,
    );
    await fails(push(registries, resolver, registry.host, "stranger"), UnauthenticatedError, /refused these/);
    await fails(push(registries, resolver, registry.host, "liar"), UnauthenticatedError, /HTTP 401/);
    assert.ok(!sessions.calls.includes("impostor FetchToken"));
    assertNoSecret(resolver);
  });

  test("that never takes a token ends the tries", async () => {
    await using tokens = await startTokenServer({ users });
    await using registry = await startRegistry({ access: tokens.access });
    await using sessions = await startSessionService({ one: user });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    tokens.skewSeconds = -3600;
    await fails(
      push(registries, resolver, registry.host, "one"),
      UnauthenticatedError,
      /session: the registry refused these credentials; anonymous: the registry refused these credentials/,
    );
  });

  test("is not opened while the token server is down, and is when it is up again", async () => {
    await using tokens = await startTokenServer({ users });
    await using registry = await startRegistry({ access: tokens.access });
    await using sessions = await startSessionService({ one: user });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    using registries = registryClient();
    let failures = 0;
    tokens.interfere = (response) => {
      failures += 1;
      response.writeHead(failures % 2 === 0 ? 503 : 500).end("c4n4ry");
      return true;
    };
    await fails(
      push(registries, resolver, registry.host, "one"),
      UnavailableError,
      /session: Cannot get token from 127\.0\.0\.1:\d+: it answered HTTP 50[03]/,
    );
    tokens.interfere = undefined;
    await push(registries, resolver, registry.host, "one");
    assertNoSecret(resolver);
  });

  test("is asked for one token by a thousand callers", async () => {
    await using tokens = await startTokenServer({ users });
    await using sessions = await startSessionService({ one: user });
    await using resolver = await startResolver({ sessionAddress: sessions.address });
    const { handle, hosts } = await sourceOf(resolver, "127.0.0.1:1/team/app", ["one"]);
    const { realm, service } = tokens.access;
    const challenges = [`Bearer realm="${realm}",service="${service}",scope="repository:team/app:pull"`];
    const request = { handle, host: hosts[0]?.host ?? "", challenges };
    const answers = await Promise.all(Array.from({ length: 1000 }, () => resolver.client.authorize(request)));
    const values = new Set(answers.map(({ authorization }) => authorization));
    assert.deepEqual([values.size, tokens.requests.length], [1, 1]);
    assert.match([...values][0] ?? "", /^Bearer eyJ/);
    assert.equal(answers[0]?.keychain, "session");
    assert.ok((answers[0]?.expiresAt?.seconds ?? 0n) > BigInt(Math.floor(Date.now() / 1000) + 200));
    assertNoSecret(resolver);
  });
});

test("bad labels, sessions that have ended and credentials that are refused are three different errors", async () => {
  await using registry = await startRegistry({
    access: { kind: "password", username: "user", password: right },
  });
  await using sessions = await startSessionService({ bad: { ...user, secret: wrong } });
  await using resolver = await startResolver({ sessionAddress: sessions.address });
  const { client } = resolver;
  const codeOf = async (call: Promise<unknown>) => {
    const error = await call.then(
      () => assert.fail("it has succeeded"),
      (thrown: unknown) => ConnectError.from(thrown),
    );
    return Code[error.code];
  };
  const labels = { "containerd.io/snapshot.ref": "sha256:abc" };
  const malformed = client.resolveSources({ query: { case: "labels", value: { labels } } });
  assert.equal(await codeOf(malformed), "InvalidArgument");

  const reference = `${registry.host}/team/app:1`;
  const challenges = ['Basic realm="x"'];
  const ended = {
    handle: (await sourceOf(resolver, reference, ["gone"])).handle,
    host: registry.host,
    challenges,
  };
  assert.equal(await codeOf(client.authorize(ended)), "Unavailable");
  // No client was waited for: the worker knows who is attached.
  assert.deepEqual(sessions.calls, []);

  const bad = {
    handle: (await sourceOf(resolver, reference, ["bad"])).handle,
    host: registry.host,
    challenges,
  };
  const { authorization } = await client.authorize(bad);
  const refusedAuthorizationSha256 = createHash("sha256").update(authorization).digest("hex");
  assert.equal(await codeOf(client.authorize({ ...bad, refusedAuthorizationSha256 })), "Unauthenticated");
});

test("a layer is read on with any live session of its image when the one that mounted it has ended", async () => {
  await using tokens = await startTokenServer({ users });
  await using registry = await startRegistry({ access: tokens.access });
  await using sessions = await startSessionService({ mounting: user });
  await using resolver = await startResolver({ sessionAddress: sessions.address });
  using registries = registryClient();
  const reference = `${registry.host}/team/app:1`;
  const image = await createImage();
  await pushImage(await open(registries, resolver, reference, ["mounting"], Access.PUSH), image, "1");
  const [layer] = (JSON.parse(image.manifest.toString()) as { layers: { digest: string }[] }).layers;
  const prefix = "containerd.io/snapshot/remote/stargz";
  const labels = {
    [`${prefix}.reference.id`]: reference,
    [`${prefix}.digest.id`]: layer?.digest ?? "",
    [`${prefix}.session.0.id`]: "mounting",
  };
  const { sources } = await resolver.client.resolveSources({ query: { case: "labels", value: { labels } } });
  const [source] = sources;
  assert.ok(source !== undefined);
  const repository = registries.repository(resolver.sources.open(source));
  const digest = (source.target?.digest ?? "") as never;
  assert.ok((await repository.statBlob(digest)) !== undefined);
  sessions.clients.delete("mounting");
  const later = registries.repository(resolver.sources.open(source));
  await fails(later.statBlob(digest), UnavailableError, /no active sessions/);
  sessions.clients.set("another", { ...user, references: [reference] });
  assert.ok((await later.statBlob(digest)) !== undefined);
});

test("a mirror is asked first, as its own entry says, and for the registry that it stands in for", async () => {
  await using mirror = await startRegistry();
  using registries = registryClient();
  await using resolver = await startResolver({
    config: `
      [registry."registry.test"]
      mirrors = ["${mirror.host}"]
      http = true
    `,
  });
  const direct = await open(registries, resolver, `${mirror.host}/team/app:1`, [], Access.PUSH);
  const pushed = await pushImage(direct, await createImage(), "1");
  const repository = await open(registries, resolver, "registry.test/team/app:1");
  assert.deepEqual(await repository.resolve({ tag: "1" }), pushed);
  assert.ok(mirror.log.some((line) => line.includes("/v2/team/app/manifests/1?ns=registry.test")));
  const push = await sourceOf(resolver, "registry.test/team/app:1", [], Access.PUSH);
  assert.deepEqual(
    push.hosts.map(({ scheme, host }) => `${scheme}://${host}`),
    ["http://registry.test"],
  );
});

test("a registry with TLS is trusted, and shown a certificate, as its entry says", async () => {
  await using authority = await createAuthority();
  const server = await authority.issue("registry");
  const client = await authority.issue("client");
  await using registry = await startRegistry({ tls: { ...server, clientCaFile: authority.caFile } });
  using registries = registryClient();
  const entry = `
    [registry."${registry.host}"]
    http = false
    ca = ["${authority.caFile}"]
  `;
  const keyPair = `
    [[registry."${registry.host}".keypair]]
    cert = "${client.certFile}"
    key = "${client.keyFile}"
  `;
  const name = `${registry.host}/team/app:1`;
  await using trusting = await startResolver({ config: entry });
  const withoutCertificate = await open(registries, trusting, name);
  await assert.rejects(withoutCertificate.resolve({ tag: "1" }), ServiceError);
  await using resolver = await startResolver({ config: entry + keyPair });
  const repository = await open(registries, resolver, name, [], Access.PUSH);
  const pushed = await pushImage(repository, await createImage(), "1");
  assert.deepEqual(await repository.resolve({ tag: "1" }), pushed);
});

test("only its own user may connect", async () => {
  await using resolver = await startResolver();
  assert.equal((await stat(resolver.address)).mode & 0o777, 0o600);
});
