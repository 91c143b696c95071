import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { appArmorStanding } from "./apparmor.ts";

test("AppArmor is asked whether it restricts user namespaces, and which profile this process has", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "apparmor-"));
  const place = (name: string) => join(directory.path, name);
  const standing = () =>
    appArmorStanding({ restriction: place("restriction"), labels: [place("own"), place("any")] });
  assert.deepEqual(standing(), { restrictsUserNamespaces: false, profile: "" });
  await writeFile(place("restriction"), "1\n");
  await writeFile(place("any"), "unprivileged_userns (enforce)\n");
  assert.deepEqual(standing(), { restrictsUserNamespaces: true, profile: "unprivileged_userns" });
  await writeFile(place("restriction"), "0\n");
  await writeFile(place("own"), "unconfined\n\0");
  assert.deepEqual(standing(), { restrictsUserNamespaces: false, profile: "unconfined" });
});

test("the kernel of this machine can be asked, whatever it has", () => {
  const standing = appArmorStanding();
  assert.equal(typeof standing.restrictsUserNamespaces, "boolean");
  assert.doesNotMatch(standing.profile, /[\0\n()]/);
});
