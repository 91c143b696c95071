import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtempDisposable, readFile, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { ResourceExhaustedError } from "@oci-worker/errdefs";
import { setTimes } from "@oci-worker/libc/file";
import { TrustBundles, trustMounts } from "./trust-bundles.ts";

const authority = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const block = `\n# buildkit proxy CA begin\n${authority}# buildkit proxy CA end\n`;
const debian = "etc/ssl/certs/ca-certificates.crt";
const fedora = "etc/pki/tls/certs/ca-bundle.crt";
const modifiedNs = 1_600_000_000_123_456_789n;

/** A root file system with `files`. */
async function rootfs(files: Readonly<Record<string, string>>) {
  const directory = await mkdtempDisposable(join(tmpdir(), "trust-"));
  const at = (path: string) => join(directory.path, path);
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(at(path)), { recursive: true });
    await writeFile(at(path), text, { mode: 0o640 });
    setTimes(at(path), modifiedNs, modifiedNs);
  }
  return { path: directory.path, at, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

describe("the files by which programs trust", () => {
  test("are as they were when a step has not changed them", async () => {
    await using root = await rootfs({ [debian]: "one", [fedora]: "two\n", "etc/ssl/other": "three" });
    const before = await stat(root.at(debian), { bigint: true });
    {
      using _trust = new TrustBundles(root.path, authority);
      assert.equal(await readFile(root.at(debian), "utf8"), `one${block}`);
      assert.equal(await readFile(root.at(fedora), "utf8"), `two\n${block}`);
    }
    assert.equal(await readFile(root.at(debian), "utf8"), "one");
    assert.equal(await readFile(root.at(fedora), "utf8"), "two\n");
    const after = await stat(root.at(debian), { bigint: true });
    assert.deepEqual(
      [after.ino, after.mtimeNs, after.mode, after.size],
      [before.ino, modifiedNs, before.mode, before.size],
    );
  });

  test("keep what a step has changed, wherever it has put them", async () => {
    await using root = await rootfs({ [debian]: "one\n" });
    {
      using _trust = new TrustBundles(root.path, authority);
      await writeFile(root.at(debian), `first\n${await readFile(root.at(debian), "utf8")}last\n`);
      await writeFile(root.at("etc/ssl/cert.pem"), `${block}${block}`);
      setTimes(root.at(debian), modifiedNs, modifiedNs + 5n);
    }
    assert.equal(await readFile(root.at(debian), "utf8"), "first\none\nlast\n");
    assert.equal(await readFile(root.at("etc/ssl/cert.pem"), "utf8"), "");
    assert.equal((await stat(root.at(debian), { bigint: true })).mtimeNs, modifiedNs + 5n);
  });

  test("are found where links of the image lead, and nowhere else", async () => {
    await using outside = await rootfs({ secret: "not yours\n" });
    await using root = await rootfs({ "data/bundle": "one\n" });
    for (const [path, target] of [
      [debian, "/data/bundle"],
      [fedora, outside.at("secret")],
      ["etc/ssl/ca-bundle.pem", "../../../../../../../../../../../../../data/bundle"],
      ["etc/ssl/cert.pem", "cert.pem"],
    ] as const) {
      await mkdir(dirname(root.at(path)), { recursive: true });
      await symlink(target, root.at(path));
    }
    await mkdir(root.at("etc/pki/tls/cacert.pem"));
    await mkdir(dirname(root.at("etc/pki/ca-trust/extracted/pem/x")), { recursive: true });
    await promisify(execFile)("mkfifo", [root.at("etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem")]);
    {
      using _trust = new TrustBundles(root.path, authority);
      assert.equal(await readFile(root.at("data/bundle"), "utf8"), `one\n${block}`);
      const mounts = await trustMounts(root.path, authority, outside.path);
      assert.deepEqual(
        mounts.map(({ destination }) => destination),
        ["/data/bundle"],
      );
    }
    assert.equal(await readFile(root.at("data/bundle"), "utf8"), "one\n");
    assert.equal(await readFile(outside.at("secret"), "utf8"), "not yours\n");
  });

  test("are refused if they are too large, and the others left as they were", async () => {
    await using root = await rootfs({ [debian]: "one\n", [fedora]: "" });
    await truncate(root.at(fedora), 10 * 1024 * 1024 + 1);
    assert.throws(
      () => new TrustBundles(root.path, authority),
      (error) => {
        assert(error instanceof ResourceExhaustedError);
        assert.match(error.message, /ca-bundle\.crt of the image has 10485761 bytes, want at most 10485760/);
        return true;
      },
    );
    assert.equal(await readFile(root.at(debian), "utf8"), "one\n");
  });
});
