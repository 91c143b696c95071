import { execFile } from "node:child_process";
import { mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** PEM files of one certificate. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
}

/** An authority of its own, in a directory that is gone with it. */
export interface Authority extends AsyncDisposable {
  readonly caFile: string;
  /**
   * A certificate for 127.0.0.1 and `<name>.test`, good for servers and clients.
   *
   * @param days how long; negative for one that has expired.
   */
  issue(name: string, days?: number): Promise<Certificate>;
}

/** For tests: makes an authority with openssl, because Node reads X.509 certificates and writes none. */
export async function createAuthority(): Promise<Authority> {
  const directory = await mkdtempDisposable(join(tmpdir(), "certificates-"));
  const file = (name: string) => join(directory.path, name);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const caFile = file("ca.pem");
  const caKeyFile = file("ca.key");
  await run("openssl", [
    ...["req", "-x509", ...key, "-subj", "/CN=test authority", "-days", "1"],
    ...["-keyout", caKeyFile, "-out", caFile],
  ]);
  return {
    caFile,
    async issue(name, days = 1) {
      const [certFile, keyFile, requestFile] = [
        file(`${name}.pem`),
        file(`${name}.key`),
        file(`${name}.csr`),
      ];
      const extensions = file(`${name}.ext`);
      await writeFile(extensions, `subjectAltName=IP:127.0.0.1,DNS:${name}.test\n`);
      await run("openssl", ["req", ...key, "-subj", `/CN=${name}`, "-keyout", keyFile, "-out", requestFile]);
      await run("openssl", [
        ...["x509", "-req", "-in", requestFile, "-CA", caFile, "-CAkey", caKeyFile, "-CAcreateserial"],
        ...["-days", String(days), "-extfile", extensions, "-out", certFile],
      ]);
      return { certFile, keyFile };
    },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

/** What a TLS server wants of a certificate. */
export async function serverOptions({
  certFile,
  keyFile,
}: Certificate): Promise<{ cert: string; key: string }> {
  return { cert: await readFile(certFile, "utf8"), key: await readFile(keyFile, "utf8") };
}
