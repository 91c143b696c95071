import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { HttpClient } from "@oci-worker/registry/http";
import fc from "fast-check";
import type { Identity, Obstacle } from "./identity.ts";
import { KubernetesKeychain } from "./kubernetes.ts";
import { authsFor, parsePullSecret } from "./pull-secret.ts";

const basic = (text: string) => Buffer.from(text).toString("base64");

function dockerConfigJson(auths: Readonly<Record<string, string>>): string {
  const entries = Object.entries(auths).map(([key, pair]) => [key, { auth: basic(pair) }]);
  return JSON.stringify({ auths: Object.fromEntries(entries) });
}

/** Who an identity is, or what is in the way. */
function plain(found: Identity | Obstacle): string {
  return "obstacle" in found
    ? found.obstacle.message
    : Buffer.from(found.basic?.reveal().replace(/^Basic /, "") ?? "", "base64").toString();
}

async function scene() {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "pull-secrets-")));
  const http = undo.use(new HttpClient());
  const keychain = new KubernetesKeychain(join(directory.path, "mounted"), { http });
  const owned = undo.move();
  const at = (...names: string[]) => join(directory.path, "mounted", ...names);
  let version = 0;
  return {
    at,
    /** Puts files into a directory as the kubelet does: all at once, by links through `..data`. */
    async mount(name: string, files: Readonly<Record<string, string>>): Promise<void> {
      version += 1;
      await mkdir(at(name, `..v${version}`), { recursive: true });
      for (const [file, text] of Object.entries(files)) {
        await writeFile(at(name, `..v${version}`, file), text);
        await symlink(join("..data", file), at(name, file)).catch((error: unknown) => {
          assert.equal((error as NodeJS.ErrnoException).code, "EEXIST");
        });
      }
      await symlink(`..v${version}`, at(name, "..data_tmp"));
      await rename(at(name, "..data_tmp"), at(name, "..data"));
    },
    async found(host = "r.example", repository = "team/app"): Promise<string[]> {
      const identities: string[] = [];
      const query = { host, reference: `r.example/${repository}:1` };
      for await (const each of keychain.identities(query, AbortSignal.timeout(60_000))) {
        identities.push(plain(each));
      }
      return identities;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describe("Kubernetes pull secrets", () => {
  test("come, are exchanged and go", async () => {
    await using pod = await scene();
    assert.deepEqual(await pod.found(), []);
    for (const pair of ["u:one", "u:two"]) {
      await pod.mount("regcred", { ".dockerconfigjson": dockerConfigJson({ "r.example": pair }) });
      assert.deepEqual(await pod.found(), [pair]);
    }
    await rm(pod.at("regcred"), { recursive: true });
    assert.deepEqual(await pod.found(), []);
  });

  test("are found in each layout, by name", async () => {
    await using pod = await scene();
    const json = (pair: string) => dockerConfigJson({ "r.example": pair });
    await pod.mount("", {
      ".dockerconfigjson": json("u:top"),
      "team.json": json("u:projected"),
      token: "c4n4ry",
    });
    await pod.mount("b", { ".dockerconfigjson": json("u:b") });
    await pod.mount("a", {
      ".dockercfg": JSON.stringify({ "r.example": { username: "u", password: "old" } }),
    });
    assert.deepEqual(await pod.found(), ["u:top", "u:old", "u:b", "u:projected"]);
  });

  test("give all that fits the image, the most precise first, and nothing to other hosts", async () => {
    await using pod = await scene();
    const auths = {
      "*.example": "u:star",
      "https://r.example/v1/": "u:host",
      "r.example/team": "u:team",
      "r.example/other": "u:other",
    };
    await pod.mount("", { ".dockerconfigjson": dockerConfigJson(auths) });
    assert.deepEqual(await pod.found(), ["u:team", "u:host", "u:star"]);
    assert.deepEqual(await pod.found("mirror.invalid"), []);
  });

  test("that are no good are told without their content, and spoil no other", async () => {
    await using pod = await scene();
    await pod.mount("a", { ".dockerconfigjson": '{"auths": {"r.example": {"auth": "c4n4ry"}}}' });
    await pod.mount("b", { ".dockerconfigjson": "c4n4ry" });
    await pod.mount("c", { ".dockerconfigjson": dockerConfigJson({ "r.example": "u:good" }) });
    const [entry, document, good] = await pod.found();
    assert.match(entry ?? "", /^Cannot read pull secret: auths\.r\.example\.auth: it is no base64/);
    assert.match(
      document ?? "",
      /^Cannot use .*\/b\/\.dockerconfigjson: Cannot read pull secret: it is no JSON$/,
    );
    assert.equal(good, "u:good");
    assert.doesNotMatch(`${entry}${document}`, /c4n4ry/);
  });
});

test("a pull secret is read or refused, whatever it is", () => {
  const entry = fc.oneof(
    fc.record({ auth: fc.string(), identitytoken: fc.jsonValue() }, { requiredKeys: [] }),
    fc.jsonValue(),
  );
  const auths = fc.dictionary(fc.oneof(fc.constantFrom("r.example", "*"), fc.string()), entry);
  const document = fc.oneof(fc.record({ auths }), auths, fc.jsonValue());
  const bytes = fc.oneof(
    fc.uint8Array(),
    document.map((value) => Buffer.from(JSON.stringify(value))),
  );
  fc.assert(
    fc.property(bytes, fc.constantFrom("dockerconfigjson", "dockercfg"), (input, format) => {
      try {
        authsFor(parsePullSecret(input, format), "r.example", "team/app");
      } catch (error) {
        assert.ok(error instanceof InvalidArgumentError, String(error));
      }
    }),
  );
});
