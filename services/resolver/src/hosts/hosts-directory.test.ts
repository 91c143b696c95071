import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError, UnavailableError } from "@oci-worker/errdefs";
import { type RegistryHost, upstreamHost } from "@oci-worker/registry/host";
import fc from "fast-check";
import { pino } from "pino";
import { parse } from "smol-toml";
import type { Access } from "../handle.ts";
import { parseHostsFile } from "./hosts-file.ts";
import { openHosts } from "./open.ts";
import { parseRegistryTable } from "./registry-table.ts";

/** A folder of settings that is gone afterwards. */
async function folder(files: Readonly<Record<string, string>>, table = "") {
  const directory = await mkdtempDisposable(join(tmpdir(), "certs.d-"));
  const lines: string[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => lines.push(line) });
  const registry = parseRegistryTable(parse(table)["registry"]);
  const buildkitdConfig = join(directory.path, "buildkitd.toml");
  const hosts = openHosts({ registry, buildkitdConfig, hostsDir: directory.path }, log);
  const path = (name: string) => join(directory.path, name);
  const write = async (name: string, text: string) => {
    await mkdir(dirname(path(name)), { recursive: true });
    await writeFile(path(name), text);
  };
  for (const [name, text] of Object.entries(files)) {
    await write(name, text);
  }
  return {
    hosts,
    lines,
    path,
    write,
    urls: async (domain: string, access: Access = "pull") => (await hosts.of(domain, access)).map(urlOf),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

function urlOf({ scheme, host, path, upstreamNamespace }: RegistryHost): string {
  return `${scheme}://${host}${path}${upstreamNamespace === undefined ? "" : `?ns=${upstreamNamespace}`}`;
}

describe("a directory of the folder", () => {
  test("lists mirrors in the order of its file, and the registry itself after them", async () => {
    const toml = `
      [host."https://z.example"]
      [host."http://a.example:5000/proxy/"]
      [host."bare.example/v2"]
      [host."https://as-is.example/some/path"]
      override_path = true
      [host."https://root.example"]
      override_path = true
    `;
    await using certs = await folder({ "docker.io/hosts.toml": toml });
    assert.deepEqual(await certs.urls("docker.io"), [
      "https://z.example/v2?ns=docker.io",
      "http://a.example:5000/proxy/v2?ns=docker.io",
      "https://bare.example/v2?ns=docker.io",
      "https://as-is.example/some/path?ns=docker.io",
      "https://root.example?ns=docker.io",
      "https://registry-1.docker.io/v2",
    ]);
    assert.deepEqual(await certs.urls("other.example"), ["https://other.example/v2"]);
  });

  test("may say what stands in for the registry itself", async () => {
    await using certs = await folder({
      "r.example/hosts.toml": 'server = "https://stand-in.example:8443"',
      "docker.io/hosts.toml": 'server = "https://registry-1.docker.io"',
      "plain.example/hosts.toml": 'server = "http://plain.example"',
    });
    assert.deepEqual(await certs.urls("r.example"), ["https://stand-in.example:8443/v2?ns=r.example"]);
    assert.deepEqual(await certs.urls("docker.io"), ["https://registry-1.docker.io/v2"]);
    assert.deepEqual(await certs.urls("plain.example"), ["http://plain.example/v2"]);
  });

  test("says what each host may be asked for, and hosts that take pushes get them", async () => {
    const toml = `
      capabilities = ["pull", "resolve"]
      [host."https://pull.example"]
      capabilities = ["pull"]
      [host."https://push.example"]
      capabilities = "push"
      [host."https://all.example"]
    `;
    await using certs = await folder({ "r.example/hosts.toml": toml });
    assert.deepEqual(await certs.urls("r.example"), [
      "https://pull.example/v2?ns=r.example",
      "https://all.example/v2?ns=r.example",
      "https://r.example/v2",
    ]);
    assert.deepEqual(await certs.urls("r.example", "push"), [
      "https://push.example/v2?ns=r.example",
      "https://all.example/v2?ns=r.example",
    ]);
    const [pull] = await certs.hosts.of("r.example", "pull");
    assert.deepEqual(pull?.capabilities, ["pull"]);
  });

  test("has TLS settings and headers for each host by itself, and files count from where it is", async () => {
    const toml = `
      ca = "/registry-ca.pem"
      [host."https://a.example"]
      ca = ["a.pem", "../b.pem"]
      client = [["/c.cert", "c.key"], ["both.pem", ""]]
      [host."https://a.example".header]
      x-one = "1"
      X-Two = ["2", "3"]
      [host."https://b.example"]
      client = "both.pem"
      skip_verify = true
      [host."https://c.example"]
      client = ["/one.pem", "/two.pem"]
      [host."https://d.example"]
    `;
    await using certs = await folder({ "r.example/hosts.toml": toml });
    const at = (name: string) => certs.path(join("r.example", name));
    const both = { certFile: at("both.pem"), keyFile: at("both.pem") };
    const [a, b, c, d, registry] = await certs.hosts.of("r.example", "pull");
    assert.deepEqual(a?.tls, {
      caFiles: [at("a.pem"), certs.path("b.pem")],
      keyPairs: [{ certFile: "/c.cert", keyFile: at("c.key") }, both],
    });
    assert.deepEqual(a?.headers, { "x-one": ["1"], "X-Two": ["2", "3"] });
    assert.deepEqual(b?.tls, { insecureSkipVerify: true, keyPairs: [both] });
    assert.deepEqual(c?.tls, {
      keyPairs: ["/one.pem", "/two.pem"].map((file) => ({ certFile: file, keyFile: file })),
    });
    assert.equal(d?.tls, undefined);
    assert.deepEqual(registry?.tls, { caFiles: ["/registry-ca.pem"] });
  });

  test("without a file has the TLS files of the registry, as Docker's", async () => {
    await using certs = await folder({
      "r.example/a.crt": "",
      "r.example/me.cert": "",
      "r.example/me.key": "",
      "localhost:5000/a.crt": "",
      "localhost:5001/readme": "",
    });
    const at = (name: string) => certs.path(join("r.example", name));
    const [host] = await certs.hosts.of("r.example", "pull");
    assert.deepEqual(host, {
      ...upstreamHost("r.example"),
      tls: { caFiles: [at("a.crt")], keyPairs: [{ certFile: at("me.cert"), keyFile: at("me.key") }] },
    });
    assert.deepEqual(await certs.urls("localhost:5000"), ["https://localhost:5000/v2"]);
    assert.deepEqual(await certs.urls("localhost:5001"), ["http://localhost:5001/v2"]);
  });

  test("is found with the port in either spelling, and _default is for the rest", async () => {
    const mirror = (host: string) => `[host."https://${host}"]`;
    await using certs = await folder({
      "a.example_5000_/hosts.toml": mirror("underscores"),
      "a.example:5000/hosts.toml": mirror("colon"),
      "b.example:5000/hosts.toml": mirror("colon"),
      "[::1]_5000_/hosts.toml": mirror("six"),
      "_default/hosts.toml": mirror("default"),
    });
    const first = async (domain: string) => (await certs.hosts.of(domain, "pull"))[0]?.host;
    assert.equal(await first("a.example:5000"), "underscores");
    assert.equal(await first("b.example:5000"), "colon");
    assert.equal(await first("[::1]:5000"), "six");
    assert.equal(await first("a.example"), "default");
    assert.deepEqual(await certs.urls("c.example"), [
      "https://default/v2?ns=c.example",
      "https://c.example/v2",
    ]);
  });

  test("does not count where the table has an entry, nor its server for tokens", async () => {
    const certsFiles = { "r.example/hosts.toml": 'ca = "/dir.pem"\n[host."https://from-directory"]' };
    await using certs = await folder(certsFiles, '[registry."r.example"]\nmirrors = ["from-table"]');
    assert.deepEqual(await certs.urls("r.example"), [
      "https://from-table/v2?ns=r.example",
      "https://r.example/v2",
    ]);
    const tls = (url: string) => certs.hosts.tokenServerTls(new URL(url), upstreamHost("x.example"));
    assert.equal(await tls("https://r.example/token"), undefined);
  });

  test("says how to connect to a token server, and _default does not", async () => {
    await using certs = await folder({
      "auth.example/hosts.toml": 'ca = "/auth.pem"',
      "moved.example/hosts.toml": 'server = "https://elsewhere.example"\nca = "/elsewhere.pem"',
      "_default/hosts.toml": 'ca = "/default.pem"',
    });
    const registry = { ...upstreamHost("r.example"), tls: { caFiles: ["/r.pem"] } };
    const tls = (url: string) => certs.hosts.tokenServerTls(new URL(url), registry);
    assert.deepEqual(await tls("https://auth.example/token"), { caFiles: ["/auth.pem"] });
    assert.deepEqual(await tls("https://moved.example/token"), { caFiles: ["/r.pem"] });
    assert.deepEqual(await tls("https://other.example/token"), { caFiles: ["/r.pem"] });
  });

  test("comes, changes and goes while we run", async () => {
    await using certs = await folder({});
    const mirror = (host: string) => `[host."https://${host}"]`;
    const first = async () => (await certs.hosts.of("r.example", "pull"))[0]?.host;
    assert.equal(await first(), "r.example");
    await certs.write("r.example/hosts.toml", mirror("one.example"));
    assert.equal(await first(), "one.example");
    // Of the same length, in the same file, within the same tick of the clock.
    await certs.write("r.example/hosts.toml", mirror("two.example"));
    assert.equal(await first(), "two.example");
    await certs.write("new/hosts.toml", mirror("three.example"));
    await rename(certs.path("r.example"), certs.path("old"));
    await rename(certs.path("new"), certs.path("r.example"));
    assert.equal(await first(), "three.example");
    await rm(certs.path("r.example"), { recursive: true });
    assert.equal(await first(), "r.example");
  });

  test("that cannot be used is told with its file and key, and its values are not shown", async () => {
    const cases = [
      ["server = 5", /server: want a text/],
      ['server = "ftp://x"', /server: it is no http or https URL/],
      ['server = "https://u:c4n4ry@x"', /server: it is no http or https URL/],
      ['[host."https://x?y"]', /host\."https:\/\/x\?y": it is no http or https URL/],
      ["host = 1", /host: want a table/],
      ['host."x" = 1', /host\."x": want a table/],
      [
        '[host."x"]\ncapabilities = ["fly"]',
        /host\."x"\.capabilities: it has "fly", want pull, resolve, push/,
      ],
      ['[host."x"]\nskip_verify = "c4n4ry"', /host\."x"\.skip_verify: want true or false/],
      ['[host."x"]\nca = [1]', /host\."x"\.ca: want a text or a list/],
      ['[host."x"]\nclient = [["a", "b", "c"]]', /host\."x"\.client: want a file, a list/],
      [
        '[host."x".header]\nAuthorization = "c4n4ry"',
        /header\."Authorization": want credentials in a keychain/,
      ],
      ['[host."x".header]\n"a b" = "1"', /header\."a b": it is no name of a header/],
      ['[host."x".header]\na = "c4n4ry\\r\\nb"', /header\."a": want values without line breaks/],
      ['ca = "/a"\nc4n4ry', /line 2 is no TOML/],
    ] as const;
    for (const [toml, message] of cases) {
      await using certs = await folder({ "r.example/hosts.toml": toml });
      await assert.rejects(certs.hosts.of("r.example", "pull"), (error) => {
        assert.ok(error instanceof UnavailableError, String(error));
        assert.match(error.message, message);
        assert.ok(error.message.startsWith(`Cannot use ${certs.path("r.example/hosts.toml")}: `));
        assert.doesNotMatch(error.message, /c4n4ry/);
        return true;
      });
    }
  });

  test("is warned of keys that mean nothing, once for each change", async () => {
    const toml = 'dial_timeout = "1s"\n[host."https://m.example"]\nskip_verfy = true';
    await using certs = await folder({ "r.example/hosts.toml": toml });
    assert.equal((await certs.urls("r.example")).length, 2);
    assert.deepEqual(JSON.parse(certs.lines[0] ?? "").keys, [
      "dial_timeout",
      'host."https://m.example".skip_verfy',
    ]);
  });
});

describe("a buildkitd.toml", () => {
  const mirror = (domain: string, host: string) => `[registry."${domain}"]\nmirrors = ["${host}"]\n`;

  test("counts before directories, and our own table before it, by registry", async () => {
    const files = {
      "buildkitd.toml": `debug = true\n${mirror("a.example", "buildkitd")}${mirror("b.example", "buildkitd")}`,
      "b.example/hosts.toml": '[host."https://directory"]',
      "c.example/hosts.toml": '[host."https://directory"]',
    };
    await using certs = await folder(files, mirror("a.example", "own"));
    const first = async (domain: string) => (await certs.hosts.of(domain, "pull"))[0]?.host;
    assert.deepEqual(await Promise.all(["a.example", "b.example", "c.example", "d.example"].map(first)), [
      "own",
      "buildkitd",
      "directory",
      "d.example",
    ]);
  });

  test("comes, changes and goes while we run", async () => {
    await using certs = await folder({});
    const first = async () => (await certs.hosts.of("r.example", "pull"))[0]?.host;
    assert.equal(await first(), "r.example");
    for (const host of ["one.example", "two.example"]) {
      await certs.write("buildkitd.toml", mirror("r.example", host));
      assert.equal(await first(), host);
    }
    await rm(certs.path("buildkitd.toml"));
    assert.equal(await first(), "r.example");
  });

  test("that is no good is told, and keys that mean nothing are warned of", async () => {
    await using certs = await folder({});
    const fails = (message: RegExp) =>
      assert.rejects(certs.hosts.of("r.example", "pull"), (error) => {
        return error instanceof UnavailableError && message.test(error.message);
      });
    await certs.write("buildkitd.toml", '[registry."r.example"]\nhttp = "yes"');
    await fails(
      /^Cannot use .*\/buildkitd\.toml: .*registry\."r\.example"\.http is "yes", want true or false$/,
    );
    await certs.write("buildkitd.toml", "=");
    await fails(/^Cannot use .*\/buildkitd\.toml: line 1 is no TOML$/);
    await certs.write("buildkitd.toml", '[registry."r.example"]\nhttp = true\nhtp = true');
    assert.deepEqual(await certs.urls("r.example"), ["http://r.example/v2"]);
    assert.deepEqual(JSON.parse(certs.lines[0] ?? "").keys, ['registry."r.example"."htp"']);
  });
});

test("a hosts.toml is read or refused, whatever it is", () => {
  const word = fc.constantFrom(
    "x",
    "https://m.example/v2",
    "http://[::1]:5000",
    "pull",
    "",
    "%zz",
    "a/../..",
  );
  const value = fc.oneof(
    word.map((text) => JSON.stringify(text)),
    fc.array(word).map((list) => JSON.stringify(list)),
    fc.constantFrom("true", "5", "1979-05-27", "[[1]]", "{ a = 1 }", '[["a", ""]]'),
    fc.string(),
  );
  const key = fc.constantFrom(
    ...[
      "server",
      "capabilities",
      "ca",
      "client",
      "skip_verify",
      "override_path",
      "header",
      "header.x",
      "other",
    ],
  );
  const line = fc.oneof(
    fc.tuple(key, value).map(([name, text]) => `${name} = ${text}`),
    fc.tuple(word, key).map(([host, name]) => `[host.${JSON.stringify(host)}.${name}]`),
    word.map((host) => `[host.${JSON.stringify(host)}]`),
    fc.string({ unit: "binary" }),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
      try {
        for (const { endpoint, capabilities } of parseHostsFile(lines.join("\n"), "/dir").sections) {
          assert.ok(capabilities.length > 0);
          assert.match(endpoint?.path ?? "", /^(\/.*[^/])?$/);
        }
      } catch (error) {
        assert.ok(error instanceof InvalidArgumentError, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});
