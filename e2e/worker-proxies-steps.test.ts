import "./peers/enter-own-namespaces.ts";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import type { BuildOptions } from "@oci-worker/client/build";
import { definitionOf, image, type RunOptions, run, type Tree } from "@oci-worker/llb/build";
import type { Reference } from "@oci-worker/oci/reference";
import { createAuthority } from "./peers/certificates.ts";
import { assembleImage, layerOf, programs } from "./peers/image.ts";
import { linkedProgram } from "./peers/linked-program.ts";
import { startOutsideServer } from "./peers/outside-server.ts";
import { childrenOf, untilGone } from "./peers/process.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

const execute = promisify(execFile);

/** Where Debian's curl looks for whom it trusts. */
const bundle = "/etc/ssl/certs/ca-certificates.crt";
const bundleText = "# nobody yet\n";

/**
 * An image in a registry, and servers on the loopback device of the worker's network.
 *
 * @param curl whether the image has that; with its libraries it is large.
 */
async function fixture({ curl = false } = {}) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const modifiedNs = 1_600_000_000_123_456_789n;
  const etc = [
    ...["etc", "etc/ssl", "etc/ssl/certs"].map((name) => ({ type: "directory", name, modifiedNs }) as const),
    // For a root that can only be read.
    ...["etc/hosts", "etc/resolv.conf"].map((name) => ({ type: "file", name }) as const),
    { type: "file", name: bundle.slice(1), content: Buffer.from(bundleText), modifiedNs },
  ] as const;
  const layers = [await programs(), etc, ...(curl ? [await linkedProgram("/usr/bin/curl", "curl")] : [])];
  const reference = await pushTo(registry, assembleImage(await Promise.all(layers.map(layerOf))));
  const { path } = undo.use(await mkdtempDisposable(join(tmpdir(), "proxied-")));
  const authority = await createAuthority(path, "authority");
  const { cert, key } = await authority.sign("server");
  const asked: string[] = [];
  const events = new EventEmitter();
  let waiting: ServerResponse | undefined;
  const answer: RequestListener = async (request, response) => {
    if (request.url === "/endless") {
      response.once("close", () => events.emit("ended"));
      response.write("x\n");
      events.emit("begun");
      return;
    }
    if (request.url === "/meet") {
      for (const each of waiting === undefined ? [] : [waiting, response]) {
        each.end("met\n");
      }
      waiting = response;
      return;
    }
    const body = Buffer.concat(await Array.fromAsync(request));
    asked.push(`${request.method} ${request.url} ${body}`);
    response.end(`${request.url === "/large" ? "x".repeat(20_000_000) : "hello"}\n`);
  };
  const plain = await listening(createServer(answer), undo);
  const secure = await listening(
    createSecureServer({ cert: await readFile(cert), key: await readFile(key) }, answer),
    undo,
  );
  const owned = undo.move();
  return {
    reference,
    path,
    /** For the worker, so that it trusts the secure server. */
    environment: { SSL_CERT_FILE: authority.cert },
    http: `http://127.0.0.1:${plain}`,
    https: `https://localhost:${secure}`,
    asked,
    /** `begun` and `ended`: an answer that has no end of its own. */
    events,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function listening(server: Server, undo: AsyncDisposableStack): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  undo.defer(async () => {
    server.close();
    if ("closeAllConnections" in server && typeof server.closeAllConnections === "function") {
      server.closeAllConnections();
    }
    await once(server, "close");
  });
  return (server.address() as AddressInfo).port;
}

function step(reference: Reference, script: string, options: Partial<RunOptions> = {}): Tree {
  return run({
    root: image(reference),
    args: ["sh", "-ec", script],
    env: ["PATH=/bin:/usr/bin"],
    ignoreCache: true,
    ...options,
  }).root;
}

/** What the steps of a build print on each stream. */
async function output({ client }: WorkerPeer, tree: Tree, options: BuildOptions = {}) {
  const build = client.solve(definitionOf(tree), { proxyNetwork: true, ...options });
  const text = { stdout: "", stderr: "" };
  for await (const { logs } of build.status) {
    for (const { data, stream } of logs) {
      text[stream] += Buffer.from(data).toString();
    }
  }
  await build.result;
  return text;
}

/** The script with the variable that keeps requests to loopback from the proxy taken away. */
const toProxy = (script: string) => `unset NO_PROXY no_proxy\n${script}`;

const ask = (url: string) => `busybox wget -qO- ${url}`;

describe("a step of a build that asks for a proxy network", () => {
  const undo = new AsyncDisposableStack();
  let on: Awaited<ReturnType<typeof fixture>>;
  let worker: WorkerPeer;
  before(async () => {
    on = undo.use(await fixture({ curl: true }));
    worker = undo.use(await startWorker({ environment: on.environment }));
  });
  after(() => undo.disposeAsync());

  test("gets what it asks for by HTTP and HTTPS, and tells what that was", async () => {
    const script = toProxy(`
      ${ask(`${on.http}/plain?a=b`)}
      curl -sS ${on.https}/secret ${on.https}/again
      curl -sS --data-binary sent -H "Transfer-Encoding: chunked" ${on.https}/taken
      curl -sS -o /dev/null -w "%{size_download}\\n" ${on.https}/large
      curl -sS -o /dev/null -w "%{http_code}\\n" http://127.0.0.1:1/refused`);
    const { stdout, stderr } = await output(worker, step(on.reference, script));
    assert.equal(stdout, "hello\nhello\nhello\nhello\n20000001\n502\n");
    assert.deepEqual(on.asked.splice(0), [
      "GET /plain?a=b ",
      "GET /secret ",
      "GET /again ",
      "POST /taken sent",
      "GET /large ",
    ]);
    assert.equal(
      stderr,
      [
        "proxy network requests:",
        `- GET ${on.http}/plain?a=b -> 200`,
        `- GET ${on.https}/secret -> 200`,
        `- GET ${on.https}/again -> 200`,
        `- POST ${on.https}/taken -> 200`,
        `- GET ${on.https}/large -> 200`,
        "- GET http://127.0.0.1:1/refused -> 502",
        "",
      ].join("\n"),
    );
  });

  test("reaches nothing in any other way, and is not proxied where it has no network", async () => {
    await using outside = await startOutsideServer();
    const [, port] = /:(\d+)$/.exec(on.http) ?? [];
    const direct = `
      unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy
      for url in ${on.http}/direct ${outside.url}/who; do busybox wget -T 2 -qO- $url || echo out of reach; done
      echo GET /raw | busybox nc -w 2 127.0.0.1 ${port} || echo out of reach`;
    const script = `
      busybox ip -o link show | busybox awk '{ print $2 }'
      echo $HTTP_PROXY | busybox sed 's/[0-9]*$/PORT/'; busybox test $HTTPS_PROXY = $http_proxy && echo $no_proxy
      curl -sS telnet://127.0.0.1:${port} 2>/dev/null || echo out of reach
      ${direct}`;
    const away = "out of reach";
    const found = await output(
      worker,
      step(on.reference, script, { env: ["PATH=/bin:/usr/bin", "HTTP_PROXY=x"] }),
    );
    assert.equal(
      found.stdout,
      ["lo:", "http://127.0.0.1:PORT", "127.0.0.1,localhost,::1", away, away, away, away, ""].join("\n"),
    );
    assert.doesNotMatch(found.stderr, /proxy network requests/);
    const offline = await output(
      worker,
      step(on.reference, `env | busybox grep -ic proxy || ${ask(`${on.http}/none`)} || echo ${away}`, {
        network: "none",
      }),
    );
    assert.equal(offline.stdout, `0\n${away}\n`);
    assert.deepEqual(on.asked.splice(0), []);
  });

  test("trusts its proxy as long as it runs, and nothing of that is in its result", async () => {
    const count = `busybox grep -c 'buildkit proxy CA begin' ${bundle} || true`;
    const untouched = step(on.reference, `${count}; echo made > /made`);
    assert.equal((await output(worker, untouched)).stdout, "1\n");
    assert.deepEqual(await lastLayerOf(on.path, worker, untouched), { names: ["made"], bundle: undefined });
    const changing = step(on.reference, `echo mine >> ${bundle}; ${count}`);
    const changed = await lastLayerOf(on.path, worker, changing);
    assert.deepEqual(changed.names, [bundle.slice(1)]);
    assert.equal(changed.bundle, `${bundleText}mine\n`);
    const replacing = step(on.reference, `echo new > /etc/new; busybox mv /etc/new ${bundle}`);
    assert.equal((await lastLayerOf(on.path, worker, replacing)).bundle, "new\n");
    const readonly = run({
      root: image(on.reference),
      args: ["sh", "-ec", toProxy(`${count}; curl -sS ${on.https}/`)],
      readonlyRoot: true,
      mounts: [{ type: "bind", dest: "/tmp", from: image(on.reference) }],
    }).mounts.get("/tmp");
    assert(readonly !== undefined);
    assert.equal((await output(worker, readonly)).stdout, "1\nhello\n");
    const later = run({
      root: untouched,
      args: ["sh", "-c", count],
      env: ["PATH=/bin"],
      network: "none",
    }).root;
    assert.equal((await output(worker, later)).stdout, "1\n0\n");
  });

  test("is not taken for the same step of a build without one, at the same time", async () => {
    // Each waits until the other runs, too.
    const script = toProxy(`echo "$HTTP_PROXY"; ${ask(`${on.http}/meet`)}`);
    const options: Partial<RunOptions> = { ignoreCache: false };
    const [proxied, plain] = await Promise.all(
      [true, false].map((proxyNetwork) =>
        output(worker, step(on.reference, script, options), { proxyNetwork }),
      ),
    );
    assert.match(proxied?.stdout ?? "", /^http:.*\nmet\n$/);
    assert.equal(plain?.stdout, "\nmet\n");
  });
});

describe("a proxy", () => {
  const bridge = ["--oci-worker-net", "bridge"];
  const withHost = [...bridge, "--allow-insecure-entitlement", "network.host"];

  test("asks from the network that its step would be in, and only from the host's for who may be there", async () => {
    await using on = await fixture();
    await using outside = await startOutsideServer();
    await using worker = await startWorker({ args: withHost, environment: on.environment });
    const script = toProxy(
      `${ask(`${outside.url}/who`)}; ${ask(`${on.http}/loopback`)} || echo out of reach`,
    );
    const inside = await output(worker, step(on.reference, script));
    assert.equal(inside.stdout, `${outside.ourAddress}\nout of reach\n`);
    assert.equal(
      inside.stderr.slice(inside.stderr.indexOf("proxy network requests:")),
      `proxy network requests:\n- GET ${outside.url}/who -> 200\n- GET ${on.http}/loopback -> 502\n`,
    );
    const asHost = step(on.reference, script, { network: "host" });
    await assert.rejects(output(worker, asHost), /network\.host is not allowed/);
    assert.deepEqual(on.asked, []);
    const host = await output(worker, asHost, { entitlements: ["network.host"] });
    assert.equal(host.stdout, `${outside.ourAddress}\nhello\n`);
    assert.deepEqual(on.asked, ["GET /loopback "]);
  });

  test("does not trust a server for its step that the worker's machine does not trust", async () => {
    await using on = await fixture({ curl: true });
    await using worker = await startWorker();
    const script = toProxy(`curl -s -w '%{http_code}\\n' ${on.https}/`);
    const { stdout, stderr } = await output(worker, step(on.reference, script));
    assert.match(stdout, /^unable to verify the first certificate\n502\n$/);
    assert.equal(stderr, `proxy network requests:\n- GET ${on.https}/ -> 502\n`);
    assert.deepEqual(on.asked, []);
  });

  test("is put before every step if the worker is told so, by flag or by key", async () => {
    await using on = await fixture({ curl: true });
    for (const options of [{ args: ["--proxy-network"] }, { config: "proxyNetwork = true" }]) {
      await using worker = await startWorker(options);
      const proxied = step(on.reference, ask(on.http));
      const { stderr } = await output(worker, proxied, { proxyNetwork: false });
      assert.equal(stderr, `proxy network requests:\n- GET ${on.http}/ -> 200\n`);
    }
    await using worker = await startWorker();
    const plain = step(on.reference, `${ask(on.http)}; env`);
    const { stdout, stderr } = await output(worker, plain, { proxyNetwork: false });
    assert.match(stdout, /^hello\n/);
    assert.doesNotMatch(stdout + stderr, /proxy/i);
  });

  test("ends with a step that is canceled in the middle of an answer, and with a worker that is killed", async () => {
    await using on = await fixture({ curl: true });
    await using state = await mkdtempDisposable(join(tmpdir(), "worker-"));
    const tree = step(on.reference, ask(`${on.http}/endless`));
    for (const end of ["cancel", "kill"] as const) {
      const canceled = new AbortController();
      const worker = await startWorker({ directory: state.path });
      const children = await childrenOf(worker.process.pid);
      const [begun, ended] = [once(on.events, "begun"), once(on.events, "ended")];
      const running = assert.rejects(output(worker, tree, { signal: canceled.signal }));
      await begun;
      if (end === "cancel") {
        canceled.abort();
      } else {
        await worker.process.kill();
        // They drain, and hold what is theirs until they have.
        await Promise.all(children.map(untilGone));
      }
      await Promise.all([running, ended]);
      if (end === "cancel") {
        await worker[Symbol.asyncDispose]();
      }
    }
    await using worker = await startWorker({ directory: state.path });
    assert.deepEqual(await readdir(join(worker.root, "net/proxy")), []);
    assert.doesNotMatch(await readFile("/proc/self/mountinfo", "utf8"), /net\/proxy/);
  });
});

/** Names of the files in the last layer of what `tree` comes to, and the bundle if it is one of them. */
async function lastLayerOf(path: string, { client }: WorkerPeer, tree: Tree) {
  const archive = join(path, "image.tar");
  const built = client.solve(definitionOf(tree), {
    proxyNetwork: true,
    output: { type: "file", exporter: "oci", attributes: {}, write: (pieces) => writeFile(archive, pieces) },
  });
  await built.result;
  const member = async (name: string) => JSON.parse((await execute("tar", ["-xOf", archive, name])).stdout);
  const { manifests } = await member("index.json");
  const blob = (digest: string) => `blobs/${digest.replace(":", "/")}`;
  const { layers } = await member(blob(manifests[0].digest));
  await execute("tar", ["-xf", archive, "-C", path]);
  const layer = join(path, blob(layers.at(-1).digest));
  const listed = (await execute("tar", ["-tzf", layer])).stdout.split("\n");
  const names = listed.filter((name) => name !== "" && !name.endsWith("/"));
  const text = names.includes(bundle.slice(1))
    ? (await execute("tar", ["-xzOf", layer, bundle.slice(1)])).stdout
    : undefined;
  return { names, bundle: text };
}
