import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

/** Paths of a certificate and its key, PEM. */
export interface CertifiedKey {
  readonly cert: string;
  readonly key: string;
}

/** An authority that signs certificates; only openssl makes them here. */
export interface Authority extends CertifiedKey {
  /**
   * A certificate for 127.0.0.1 in the name of `name`.
   *
   * @param days how long it is good; negative for one that has expired.
   */
  sign(name: string, days?: number): Promise<CertifiedKey>;
}

const openssl = (...args: string[]) => promisify(execFile)("openssl", args);

const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** Makes an authority whose files are in `directory`, by names that begin with `name`. */
export async function createAuthority(directory: string, name: string): Promise<Authority> {
  const [cert, key] = [join(directory, `${name}.pem`), join(directory, `${name}.key`)];
  await openssl(
    "req",
    "-x509",
    ...newKey,
    "-days",
    "1",
    "-subj",
    `/CN=${name}`,
    "-keyout",
    key,
    "-out",
    cert,
  );
  return {
    cert,
    key,
    async sign(subject, days = 1) {
      const file = (suffix: string) => join(directory, `${name}-${subject}.${suffix}`);
      await writeFile(file("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
      await openssl("req", ...newKey, "-subj", `/CN=${subject}`, "-keyout", file("key"), "-out", file("csr"));
      await openssl(
        ...["x509", "-req", "-in", file("csr"), "-CA", cert, "-CAkey", key, "-CAcreateserial"],
        ...["-days", String(days), "-extfile", file("ext"), "-out", file("pem")],
      );
      return { cert: file("pem"), key: file("key") };
    },
  };
}
