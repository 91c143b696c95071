import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable } from "node:fs/promises";
import { get, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { startRegistry } from "./registry.ts";
import { startTokenServer } from "./token-server.ts";

async function fetchFrom(host: string, path: string, authorization?: string) {
  const request = get(`http://${host}${path}`, { headers: { ...(authorization && { authorization }) } });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) {
    chunks.push(chunk);
  }
  const challenge = response.headers["www-authenticate"];
  return { status: response.statusCode, challenge, body: Buffer.concat(chunks).toString() };
}

function basic(pair: string): string {
  return `Basic ${Buffer.from(pair).toString("base64")}`;
}

describe("startRegistry", () => {
  test("lets anybody in, and is gone afterwards", async () => {
    let host: string;
    {
      await using registry = await startRegistry();
      host = registry.host;
      assert.equal((await fetchFrom(host, "/v2/")).status, 200);
    }
    await assert.rejects(fetchFrom(host, "/v2/"), { code: "ECONNREFUSED" });
  });

  test("asks for a password", async () => {
    const access = { kind: "password", username: "user", password: 'p$ss "w\\rd' } as const;
    await using registry = await startRegistry({ access });
    const refused = await fetchFrom(registry.host, "/v2/", basic("user:wrong"));
    assert.deepEqual([refused.status, refused.challenge], [401, 'Basic realm="test registry"']);
    assert.equal((await fetchFrom(registry.host, "/v2/", basic('user:p$ss "w\\rd'))).status, 200);
  });

  test("asks for a token, and takes one of its token server while it lasts", async () => {
    await using tokens = await startTokenServer({
      users: { user: { password: "pass", repositories: ["app"] } },
      lifetimeSeconds: 300,
    });
    await using registry = await startRegistry({ access: tokens.access });
    const path = "/v2/app/tags/list";
    const { challenge } = await fetchFrom(registry.host, path);
    const [, realm, service, scope] =
      /^Bearer realm="([^"]+)",service="([^"]+)",scope="([^"]+)"$/.exec(challenge ?? "") ?? [];
    assert.deepEqual([realm, service, scope], [tokens.access.realm, "test registry", "repository:app:pull"]);
    const url = new URL(realm ?? "");
    const query = `/token?service=${encodeURIComponent(service ?? "")}&scope=${scope}`;
    const { token } = JSON.parse((await fetchFrom(url.host, query, basic("user:pass"))).body);
    // Past authentication: there is no such repository yet.
    assert.equal((await fetchFrom(registry.host, path, `Bearer ${token}`)).status, 404);
    const nobodys = JSON.parse((await fetchFrom(url.host, query)).body).token;
    assert.equal((await fetchFrom(registry.host, path, `Bearer ${nobodys}`)).status, 401);
    assert.equal((await fetchFrom(url.host, query, basic("user:wrong"))).status, 401);
    assert.deepEqual(
      tokens.requests.map(({ user }) => user),
      ["user", undefined, undefined],
    );
  });

  test("takes no token that has expired", async () => {
    await using tokens = await startTokenServer({ publicRepositories: ["app"] });
    tokens.skewSeconds = -3600;
    await using registry = await startRegistry({ access: tokens.access });
    const { host } = new URL(tokens.access.realm);
    const { token } = JSON.parse((await fetchFrom(host, "/token?scope=repository:app:pull")).body);
    assert.equal((await fetchFrom(registry.host, "/v2/app/tags/list", `Bearer ${token}`)).status, 401);
  });

  test("ends with the process that started it, even if that is killed", async () => {
    const script = `
      import { startRegistry } from ${JSON.stringify(join(import.meta.dirname, "registry.ts"))};
      process.stdout.write((await startRegistry()).host);
    `;
    await using directory = await mkdtempDisposable(join(tmpdir(), "peer-"));
    const starter = spawn(process.execPath, ["--input-type=module-typescript", "--eval", script], {
      stdio: ["ignore", "pipe", "inherit"],
      // Nobody will be there to remove what the registry has stored.
      env: { ...process.env, TMPDIR: directory.path },
    });
    const [host] = (await once(starter.stdout, "data")) as [Buffer];
    const connection = connect(Number(host.toString().split(":")[1]), "127.0.0.1");
    await once(connection, "connect");
    // A process that dies may reset its connections or close them. Either way this one ends.
    connection.on("error", () => undefined);
    const closed = Promise.withResolvers<void>();
    connection.on("close", () => closed.resolve());
    starter.kill("SIGKILL");
    connection.resume();
    await closed.promise;
  });

  test("says which package is missing", async () => {
    const path = process.env["PATH"];
    process.env["PATH"] = "/nowhere";
    try {
      await assert.rejects(startRegistry(), /missing peer: .*Debian package docker-registry/);
    } finally {
      process.env["PATH"] = path;
    }
  });
});
