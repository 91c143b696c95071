import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { parseReference } from "@oci-worker/oci/reference";
import { RegistryClient } from "@oci-worker/registry/client";
import { createImage, pushImage } from "./peers/image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startResolver } from "./peers/resolver.ts";
import { startSessionService } from "./peers/session-service.ts";

const ociw = join(import.meta.dirname, "../services/ociw/bin/ociw");
const user = { username: "user", secret: "right-c4n4ry" };

test("ociw sources tells which host and keychain served an image, and what was tried before", async () => {
  await using mirror = await startRegistry();
  await using registry = await startRegistry({
    access: { kind: "password", username: user.username, password: user.secret },
  });
  await using sessions = await startSessionService({ wrong: { ...user, secret: "wrong-c4n4ry" }, one: user });
  // The mirror lacks what the registry has, and the session that comes first has the wrong password.
  await using resolver = await startResolver({
    sessionAddress: sessions.address,
    config: `[registry."${registry.host}"]\nmirrors = ["${mirror.host}"]\n`,
  });
  using registries = new RegistryClient();
  const reference = parseReference(`${registry.host}/team/app:1`);
  const ids = () => ["wrong", "one"];
  const push = registries.repository(await resolver.sources.sourceOf(reference, ids, "push"));
  const pushed = await pushImage(push, await createImage(), "1");
  const pull = registries.repository(await resolver.sources.sourceOf(reference, ids, "pull"));
  assert.deepEqual(await pull.resolve({ tag: "1" }), pushed);

  const told = async (...args: string[]) => {
    const flags = ["sources", "--resolver-address", resolver.address, ...args];
    return (await promisify(execFile)(ociw, flags)).stdout;
  };
  const wanted = (text: string) => text.includes('"served"') && text.includes('"failed"');
  const explained = await until(() => told("--json", `${registry.host}/team/app:1`), wanted);
  const explanations = JSON.parse(explained) as { access: string; hosts: object[] }[];
  assert.deepEqual(
    explanations.map(({ access }) => access),
    ["pull", "push"],
  );
  const [first, second] = (explanations[0]?.hosts ?? []) as Record<string, unknown>[];
  assert.deepEqual(
    [first?.["url"], first?.["mirrorOf"], first?.["outcome"], first?.["failure"], first?.["keychain"]],
    [`http://${mirror.host}`, registry.host, "failed", "HTTP 404", undefined],
  );
  assert.deepEqual(
    [second?.["url"], second?.["outcome"], second?.["keychain"], second?.["challenge"], second?.["tried"]],
    [
      `http://${registry.host}`,
      "served",
      "session",
      "basic",
      [{ keychain: "session", reason: "the registry refused these credentials" }],
    ],
  );
  const table = await told();
  assert.match(table, /^IMAGE +ACCESS +HOST +OUTCOME +KEYCHAIN +TRIED BEFORE$/m);
  assert.match(table, /served +session +session: the registry refused these credentials$/m);
  assert.match(table, /failed: HTTP 404 +-/);
  assert.equal(await told("--json", "registry.example/other"), "[]\n");
  assert.doesNotMatch(explained + table, /c4n4ry|dXNlcjp/);
  await assert.rejects(told("Bad"), /upper-case letters/);
});

/** What `ask` says, asked until it is what is wanted: reports reach the resolver on a way of their own. */
async function until(ask: () => Promise<string>, wanted: (text: string) => boolean): Promise<string> {
  for (;;) {
    const text = await ask();
    if (wanted(text)) {
      return text;
    }
  }
}
