import { generateKeyPair, randomBytes } from "node:crypto";
import { isIP } from "node:net";
import { createSecureContext, type SecureContext } from "node:tls";
import { promisify } from "node:util";
import forge from "node-forge";

/** As upstream's, by whose name people look for it. */
const authorityName = "BuildKit exec proxy";

const day = 24 * 3_600_000;
const authorityLifetimeMs = 3650 * day;
const certificateLifetimeMs = day;

/** A clock of a step may be behind, and a certificate must not end under a connection. */
const marginMs = 3_600_000;

/** Hosts whose certificates are kept. */
const maxHosts = 1024;

/** RSA, which every client knows, as old as it may be. */
const keyBits = 2048;

/** subjectAltName (RFC 5280, 4.2.1.6): the choice of a name and that of an address. */
const nameChoice = 2;
const addressChoice = 7;

/** ub-common-name of RFC 5280, A.1. */
const maxCommonName = 64;

interface KeyPair {
  readonly privateKey: string;
  readonly publicKey: string;
}

interface HostCertificate {
  readonly context: SecureContext;
  readonly renewAtMs: number;
}

/**
 * An authority that speaks for every host there is, to those who are shown its certificate. Its keys are in this memory
 * and nowhere else.
 */
export class Authority {
  /** Its certificate, PEM. */
  readonly pem: string;
  readonly #certificate: forge.pki.Certificate;
  readonly #key: forge.pki.rsa.PrivateKey;
  /** Of all hosts: only we have it, whoever it is for. */
  readonly #hostKeys: KeyPair;
  /** The one asked for last is the last. */
  readonly #hosts = new Map<string, HostCertificate>();

  private constructor(keys: KeyPair, hostKeys: KeyPair) {
    this.#hostKeys = hostKeys;
    this.#key = forge.pki.privateKeyFromPem(keys.privateKey);
    this.#certificate = newCertificate(keys.publicKey, authorityName, authorityLifetimeMs);
    this.#certificate.setIssuer(this.#certificate.subject.attributes);
    this.#certificate.setExtensions([
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, digitalSignature: true, critical: true },
      { name: "subjectKeyIdentifier" },
    ]);
    this.#certificate.sign(this.#key, forge.md.sha256.create());
    this.pem = forge.pki.certificateToPem(this.#certificate).replaceAll("\r\n", "\n");
  }

  static async create(): Promise<Authority> {
    const [keys, hostKeys] = await Promise.all([newKeys(), newKeys()]);
    return new Authority(keys, hostKeys);
  }

  /** What a server needs to be taken for `host`, a name or an address. */
  contextFor(host: string): SecureContext {
    const known = this.#hosts.get(host);
    const now = Date.now();
    const usable = known !== undefined && now < known.renewAtMs ? known : this.#certify(host, now);
    this.#hosts.delete(host);
    this.#hosts.set(host, usable);
    const [oldest] = this.#hosts.keys();
    if (this.#hosts.size > maxHosts && oldest !== undefined) {
      this.#hosts.delete(oldest);
    }
    return usable.context;
  }

  #certify(host: string, now: number): HostCertificate {
    const certificate = newCertificate(
      this.#hostKeys.publicKey,
      host.slice(0, maxCommonName),
      certificateLifetimeMs,
    );
    certificate.setIssuer(this.#certificate.subject.attributes);
    const name = isIP(host) === 0 ? { type: nameChoice, value: host } : { type: addressChoice, ip: host };
    certificate.setExtensions([
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, keyEncipherment: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      { name: "subjectAltName", altNames: [name] },
      { name: "subjectKeyIdentifier" },
      {
        name: "authorityKeyIdentifier",
        keyIdentifier: this.#certificate.generateSubjectKeyIdentifier().getBytes(),
      },
    ]);
    certificate.sign(this.#key, forge.md.sha256.create());
    const cert = forge.pki.certificateToPem(certificate);
    return {
      context: createSecureContext({ cert, key: this.#hostKeys.privateKey }),
      renewAtMs: now + certificateLifetimeMs - marginMs,
    };
  }
}

async function newKeys(): Promise<KeyPair> {
  return await promisify(generateKeyPair)("rsa", {
    modulusLength: keyBits,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs1", format: "pem" },
  });
}

function newCertificate(publicKey: string, commonName: string, lifetimeMs: number): forge.pki.Certificate {
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = forge.pki.publicKeyFromPem(publicKey);
  // A byte in front keeps it positive (X.690, 8.3).
  certificate.serialNumber = `01${randomBytes(16).toString("hex")}`;
  const now = Date.now();
  certificate.validity.notBefore = new Date(now - marginMs);
  certificate.validity.notAfter = new Date(now + lifetimeMs);
  certificate.setSubject([{ name: "commonName", value: commonName }]);
  return certificate;
}
