import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { credentialsFor } from "@oci-worker/client/credentials";
import { Secret } from "@oci-worker/credentials/secret";
import { UnknownError } from "@oci-worker/errdefs";
import { parseReference } from "@oci-worker/oci/reference";
import { explained } from "./explain-pull.ts";

const image = parseReference("r.example/a");
const known = credentialsFor("r.example", { kind: "password", username: "me", password: new Secret("pw") });

describe("a refusal is told with what to do about it:", () => {
  const refusals = [
    "pulling from host r.example failed with status code [manifests latest]: 401 Unauthorized",
    "failed to authorize: failed to fetch oauth token: unexpected status from https://r.example/token: 403 Forbidden",
    "pull access denied, repository does not exist or may require authorization: insufficient_scope",
    "Cannot authorize at r.example for r.example/a:latest: no basic auth credentials",
  ];
  for (const message of refusals) {
    test(message, async () => {
      const failure = new UnknownError(message);
      const withThem = String(await explained(failure, { image, username: "me" }, known));
      assert.match(
        withThem,
        /Cannot pull r\.example\/a:latest: r\.example does not accept the credentials of me \(/,
      );
      const stored = String(await explained(failure, { image, username: undefined }, known));
      assert.match(stored, /does not accept the credentials of docker's configuration \(/);
      const none = credentialsFor("other", { kind: "password", username: "me", password: new Secret("pw") });
      const without = String(await explained(failure, { image, username: undefined }, none));
      assert.match(without, /r\.example wants to know who asks, log in with "docker login"/);
    });
  }
});

test("a refusal of a push is told as one, of the registry that it goes to", async () => {
  const failure = new UnknownError(
    "failed to push o.example/b:1: Cannot authorize at o.example for o.example/b:1",
  );
  const request = { image, push: parseReference("o.example/b:1"), username: "me" };
  const stored = credentialsFor("o.example", {
    kind: "password",
    username: "you",
    password: new Secret("pw"),
  });
  assert.match(
    String(await explained(failure, request, stored)),
    /Cannot push o\.example\/b:1: o\.example does not accept the credentials of docker's configuration \(/,
  );
  assert.match(
    String(await explained(failure, request, known)),
    /Cannot push .*: o\.example wants to know who asks/,
  );
});

describe("another failure stays as it is:", () => {
  for (const message of [
    'exec: "/x": permission denied',
    "r.example/a:latest: not found",
    'process "exit 1" did not complete successfully: exit code: 1',
  ]) {
    test(message, async () => {
      const failure = new UnknownError(message);
      assert.equal(await explained(failure, { image, username: "me" }, known), failure);
    });
  }
});
