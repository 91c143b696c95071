import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtempDisposable, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Certificate, createAuthority } from "@oci-worker/registry/test-certificates";
import { pino } from "pino";
import { TlsFiles } from "./tls-files.ts";

/** Places of a certificate and its key, and what is said about them. */
async function scene() {
  const directory = await mkdtempDisposable(join(tmpdir(), "tls-"));
  const paths = {
    tlsCert: join(directory.path, "tls.crt"),
    tlsKey: join(directory.path, "tls.key"),
    tlsCa: undefined,
  };
  const said: { readonly level: number; readonly msg: string; readonly reason?: string }[] = [];
  const log = pino({}, { write: (line) => void said.push(JSON.parse(line)) });
  const write = async ({ certFile, keyFile }: Certificate) => {
    await copyFile(certFile, paths.tlsCert);
    await copyFile(keyFile, paths.tlsKey);
  };
  return {
    path: directory.path,
    paths,
    said,
    write,
    open: () => new TlsFiles(paths, log),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

describe("the files of a certificate", () => {
  test("are read again when they have been written anew, and the same for as long as they are the same", async () => {
    await using authority = await createAuthority();
    await using on = await scene();
    await on.write(await authority.issue("first"));
    const files = on.open();
    const first = files.current();
    assert.equal(files.current(), first);
    await on.write(await authority.issue("second"));
    const second = files.current();
    assert.notEqual(second.cert, first.cert);
    assert.equal(files.current(), second);
    assert.deepEqual(
      on.said.map(({ level, msg }) => [level, msg]),
      [[30, "certificate has changed, using the new one"]],
    );
  });

  test("are followed where a directory is exchanged as a whole, as Kubernetes does it", async () => {
    await using authority = await createAuthority();
    await using on = await scene();
    const at = (name: string) => join(on.path, name);
    const exchange = async (name: string) => {
      const { certFile, keyFile } = await authority.issue(name);
      await mkdir(at(`..${name}`));
      await copyFile(certFile, at(`..${name}/tls.crt`));
      await copyFile(keyFile, at(`..${name}/tls.key`));
      await symlink(`..${name}`, at("..data_tmp"));
      await rename(at("..data_tmp"), at("..data"));
    };
    await symlink("..data/tls.crt", on.paths.tlsCert);
    await symlink("..data/tls.key", on.paths.tlsKey);
    await exchange("first");
    const files = on.open();
    const first = files.current();
    await exchange("second");
    assert.notEqual(files.current().cert, first.cert);
  });

  test("that cannot be used leave what was there before in use, which is told once, and are used when they can be", async () => {
    await using authority = await createAuthority();
    await using on = await scene();
    await on.write(await authority.issue("first"));
    const files = on.open();
    const first = files.current();
    const second = await authority.issue("second");
    // As between the two writes of whoever renews it.
    await copyFile(second.certFile, on.paths.tlsCert);
    assert.equal(files.current(), first);
    assert.equal(files.current(), first);
    await rm(on.paths.tlsKey);
    assert.equal(files.current(), first);
    await writeFile(on.paths.tlsKey, "");
    assert.equal(files.current(), first);
    const reasons = on.said.map(({ reason }) => reason ?? "");
    assert.equal(reasons.length, 3);
    assert.match(reasons[0] ?? "", /^Cannot use certificate .*tls\.crt with key .*tls\.key: /);
    assert.match(reasons[1] ?? "", /^Cannot use --tlskey: ENOENT/);
    assert.match(reasons[2] ?? "", /^Cannot use --tlskey: there is no PEM in /);
    await on.write(second);
    assert.notEqual(files.current().cert, first.cert);
    assert.doesNotMatch(JSON.stringify(on.said), /PRIVATE KEY/);
  });

  test("are wanted at the start", async () => {
    await using on = await scene();
    assert.throws(() => on.open(), InvalidArgumentError);
  });
});
