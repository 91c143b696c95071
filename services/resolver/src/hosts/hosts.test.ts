import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError, UnavailableError } from "@oci-worker/errdefs";
import { upstreamHost } from "@oci-worker/registry/host";
import { parse } from "smol-toml";
import type { Access } from "../handle.ts";
import { RegistryHosts } from "./hosts.ts";
import { parseRegistryTable } from "./registry-table.ts";

function tableOf(toml: string) {
  return parseRegistryTable(parse(toml)["registry"]);
}

function hostsOf(toml: string): RegistryHosts {
  return new RegistryHosts({ table: tableOf(toml) });
}

async function urls(toml: string, domain: string, access: Access = "pull"): Promise<string[]> {
  const hosts = await hostsOf(toml).of(domain, access);
  return hosts.map(
    ({ scheme, host, path, upstreamNamespace }) =>
      `${scheme}://${host}${path}${upstreamNamespace === undefined ? "" : `?ns=${upstreamNamespace}`}`,
  );
}

describe("the table of registries", () => {
  test("a registry without an entry is asked itself", async () => {
    assert.deepEqual(await urls("", "registry.example:5000"), ["https://registry.example:5000/v2"]);
    assert.deepEqual(await urls("", "docker.io"), ["https://registry-1.docker.io/v2"]);
    assert.deepEqual(await urls("", "localhost:5000"), ["http://localhost:5000/v2"]);
  });

  test("mirrors are asked first, with the registry's name, and nothing is pushed to them", async () => {
    const toml = `[registry."docker.io"]\nmirrors = ["mirror.example/proxy/hub/", "127.0.0.1:5000", "https://c.example"]`;
    assert.deepEqual(await urls(toml, "docker.io"), [
      "https://mirror.example/v2/proxy/hub?ns=docker.io",
      "http://127.0.0.1:5000/v2?ns=docker.io",
      "https://c.example/v2?ns=docker.io",
      "https://registry-1.docker.io/v2",
    ]);
    assert.deepEqual(await urls(toml, "docker.io", "push"), ["https://registry-1.docker.io/v2"]);
    const [mirror, , , registry] = await hostsOf(toml).of("docker.io", "pull");
    assert.deepEqual(mirror?.capabilities, ["pull", "resolve"]);
    assert.deepEqual(registry?.capabilities, ["pull", "resolve", "push"]);
  });

  test("nothing of it counts where a client trusts whoever answers", async () => {
    const toml = `[registry."r.example"]\nmirrors = ["mirror.example"]\nca = ["/ca.pem"]\nhttp = false`;
    assert.deepEqual(await urls(toml, "r.example", "insecure-push"), [
      "https://r.example/v2",
      "http://r.example/v2",
    ]);
    const [secure] = await hostsOf(toml).of("r.example", "insecure-push");
    assert.deepEqual(secure?.tls, { insecureSkipVerify: true });
  });

  test("the settings of a mirror are those of its own entry, and never the registry's", async () => {
    const toml = `
      [registry."registry.example"]
      mirrors = ["mirror.example", "bare.example"]
      ca = ["/registry-ca.pem"]
      insecure = true
      [[registry."registry.example".keypair]]
      cert = "/registry.pem"
      key = "/registry.key"
      [registry."mirror.example"]
      ca = ["/mirror-ca.pem"]
      mirrors = ["not.followed"]
    `;
    const hosts = await hostsOf(toml).of("registry.example", "pull");
    assert.deepEqual(
      hosts.map(({ host, tls }) => [host, tls]),
      [
        ["mirror.example", { caFiles: ["/mirror-ca.pem"] }],
        ["bare.example", undefined],
        [
          "registry.example",
          {
            insecureSkipVerify: true,
            caFiles: ["/registry-ca.pem"],
            keyPairs: [{ certFile: "/registry.pem", keyFile: "/registry.key" }],
          },
        ],
      ],
    );
  });

  test("plain HTTP is spoken where it is asked for, and after TLS where both are", async () => {
    const entry = (lines: string) => `[registry."r.example"]\n${lines}`;
    assert.deepEqual(await urls(entry("http = true"), "r.example"), ["http://r.example/v2"]);
    assert.deepEqual(await urls(entry("insecure = true"), "r.example"), ["https://r.example/v2"]);
    assert.deepEqual(await urls(entry("http = true\ninsecure = true"), "r.example"), [
      "https://r.example/v2",
      "http://r.example/v2",
    ]);
    assert.deepEqual(await urls('[registry."localhost"]\nhttp = false', "localhost"), [
      "https://localhost/v2",
    ]);
  });

  test("directories with TLS files are read anew each time, and may be absent", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "tls-"));
    const toml = `[registry."r.example"]\ntlsconfigdir = ["/no/such/dir", "${directory.path}"]`;
    const tlsNow = async () => (await hostsOf(toml).of("r.example", "pull"))[0]?.tls;
    assert.equal(await tlsNow(), undefined);
    for (const name of ["b.crt", "a.crt", "client.cert", "client.key", "readme"]) {
      await writeFile(join(directory.path, name), "");
    }
    const file = (name: string) => join(directory.path, name);
    assert.deepEqual(await tlsNow(), {
      caFiles: [file("a.crt"), file("b.crt")],
      keyPairs: [{ certFile: file("client.cert"), keyFile: file("client.key") }],
    });
    const ofAFile = hostsOf(`[registry."r.example"]\ntlsconfigdir = ["${file("readme")}"]`);
    await assert.rejects(ofAFile.of("r.example", "pull"), (error) => {
      assert.ok(error instanceof UnavailableError);
      assert.equal(error.message, `Cannot use ${file("readme")}: it cannot be read (ENOTDIR)`);
      return true;
    });
  });
});

describe("a token server", () => {
  const toml = `[registry."auth.example"]\nca = ["/auth-ca.pem"]`;
  const keyPairs = [{ certFile: "/c.pem", keyFile: "/c.key" }];
  const registry = { ...upstreamHost("r.example:5000"), tls: { caFiles: ["/r-ca.pem"], keyPairs } };

  test("with an entry is connected to as that says", async () => {
    const tls = await hostsOf(toml).tokenServerTls(new URL("https://auth.example/token"), registry);
    assert.deepEqual(tls, { caFiles: ["/auth-ca.pem"] });
  });

  test("of another name is trusted as the registry is, and shown its certificate only on the same machine", async () => {
    const tlsFor = (url: string) => hostsOf("").tokenServerTls(new URL(url), registry);
    assert.deepEqual(await tlsFor("https://other.example/token"), { caFiles: ["/r-ca.pem"] });
    assert.deepEqual(await tlsFor("https://r.example:5001/token"), registry.tls);
  });
});

describe("parseRegistryTable", () => {
  test("names the key that it cannot use", () => {
    const cases = [
      ['registry = "x"', /registry is "x", want a table/],
      ['[registry]\n"r" = 1', /registry\."r" is 1, want a table/],
      ['[registry."r"]\nmirror = ["x"]', /unknown key registry\."r"\."mirror", want one of mirrors, http/],
      ['[registry."r"]\nmirrors = "x"', /registry\."r"\.mirrors is "x", want a list/],
      ['[registry."r"]\nmirrors = ["http://x"]', /mirrors is "http:\/\/x", want hosts/],
      ['[registry."r"]\nmirrors = ["x/../y"]', /mirrors is "x\/\.\.\/y"/],
      ['[registry."r"]\nmirrors = ["x?y"]', /mirrors is "x\?y"/],
      ['[registry."r"]\nhttp = "yes"', /registry\."r"\.http is "yes", want true or false/],
      ['[registry."r"]\nca = "/x"', /registry\."r"\.ca is "\/x", want a list/],
      ['[[registry."r".keypair]]\nkey = "/k"', /keypair\[0\]\.cert is nothing, want a text/],
      ['[[registry."r".keypair]]\nkey = "/k"\ncert = "/c"\nca = "/a"', /unknown key .*keypair\[0\]\."ca"/],
    ] as const;
    for (const [toml, message] of cases) {
      assert.throws(
        () => tableOf(toml),
        (error) => error instanceof InvalidArgumentError && message.test(error.message),
        toml,
      );
    }
  });
});
