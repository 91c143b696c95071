import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { type ReportOutcomeRequest, SourceService } from "@oci-worker/api/ociworker/source";
import { UnauthenticatedError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { implement } from "@oci-worker/grpc/router";
import { serve } from "@oci-worker/grpc/serve";
import { digestOf } from "@oci-worker/oci/digest";
import { parseReference } from "@oci-worker/oci/reference";
import { TransientError } from "@oci-worker/registry/errors";
import { explainSources } from "./explain.ts";
import { SourceClient } from "./source-client.ts";

const reference = parseReference("registry.example/app:1");
const query = { host: "registry.example", challenges: [] };

const digest = digestOf("layer");
const layerSource = {
  id: "a",
  reference: "registry.example/app:1",
  repository: "app",
  target: { digest, urls: ["https://elsewhere.example/layer"] },
  layers: [{ digest }, { digest: digestOf("next") }],
  tocDigest: digestOf("toc"),
  handle: "of the layer",
};
const skipped = { id: "b", label: "x.reference.b", message: "it is empty" };

/** A resolver that gives out handles with the sessions in them, and what it was asked. */
async function resolver(authorize: (handle: string) => { authorization: string } = () => never()) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "resolver-")));
  const path = join(directory.path, "s.sock");
  const handles: string[] = [];
  const reports: string[] = [];
  const reported = Promise.withResolvers<void>();
  const handlers = {
    resolveSources: ({
      query: asked,
    }: {
      query: { case?: string | undefined; value?: object | undefined };
    }) => {
      if (asked.case === "labels") {
        return { sources: [{ ...layerSource, hosts: [{ host: "registry.example" }] }], skipped: [skipped] };
      }
      const { sessionIds } = asked.value as { sessionIds: string[] };
      return {
        sources: [{ handle: sessionIds.join("+"), repository: "app", hosts: [{ host: "registry.example" }] }],
      };
    },
    authorize: ({ handle }: { handle: string }) => {
      handles.push(handle);
      return authorize(handle);
    },
    reportOutcome: ({ host, failure }: ReportOutcomeRequest) => {
      reports.push(`${host}: ${failure}`);
      if (failure === "last") {
        reported.resolve();
      }
      return {};
    },
    explainSources: () => {
      throw new ConnectError("no", Code.Unavailable);
    },
  };
  undo.use(
    await serve({
      addresses: [{ path, mode: 0o600 }],
      implementations: [implement(SourceService, handlers)],
    }),
  );
  const channel = undo.use(unixChannel(path));
  const owned = undo.move();
  return {
    channel,
    client: new SourceClient(channel),
    handles,
    reports,
    reported: reported.promise,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function never(): never {
  throw new ConnectError("not expected", Code.Internal);
}

describe("SourceClient", () => {
  test("uses the credentials of the clients that want the image now", async () => {
    await using peer = await resolver((handle) => ({ authorization: `Bearer ${handle}` }));
    let sessionIDs = ["one"];
    const { authorizer } = await peer.client.sourceOf(reference, () => sessionIDs, "pull");
    const value = async () => (await authorizer.authorize(query, undefined)).value;
    assert.equal(await value(), "Bearer one");
    sessionIDs = ["one", "two"];
    assert.equal(await value(), "Bearer one+two");
    sessionIDs = ["two"];
    assert.equal(await value(), "Bearer two");
    // Nobody wants it any more: what was begun is ended as it was.
    sessionIDs = [];
    assert.equal(await value(), "Bearer two");
  });

  test("says what labels of a layer stand for, and reads with whoever may", async () => {
    await using peer = await resolver((handle) => ({ authorization: `Bearer ${handle}` }));
    const answered = await peer.client.sourcesOf({ any: "label" });
    const [source, ...others] = answered.sources;
    assert.ok(source !== undefined && others.length === 0);
    const { authorizer, onOutcome: _onOutcome, hosts, ...layer } = source;
    const { handle: _handle, reference: _reference, ...want } = layerSource;
    assert.deepEqual(layer, {
      ...want,
      reference,
      layers: want.layers.map((each) => ({ ...each, urls: [] })),
    });
    assert.equal(hosts[0]?.host, "registry.example");
    assert.deepEqual(answered.skipped, [skipped]);
    assert.equal((await authorizer.authorize(query, undefined)).value, "Bearer of the layer");
  });

  test("tells what may pass from what will not", async () => {
    for (const [code, kind] of [
      [Code.Unavailable, TransientError],
      [Code.Unauthenticated, UnauthenticatedError],
    ] as const) {
      await using peer = await resolver(() => {
        throw new ConnectError("no", code);
      });
      const { authorizer } = await peer.client.sourceOf(reference, () => [], "pull");
      await assert.rejects(authorizer.authorize(query, undefined), kind);
    }
  });

  test("tells the resolver of each change in how a host does, and of nothing else", async () => {
    await using peer = await resolver();
    const { hosts, onOutcome } = await peer.client.sourceOf(reference, () => [], "pull");
    const [host] = hosts;
    assert.ok(host !== undefined);
    for (const failure of [
      "HTTP 404",
      "HTTP 404",
      undefined,
      undefined,
      undefined,
      "x".repeat(1000),
      "last",
    ]) {
      onOutcome(host, failure);
    }
    await peer.reported;
    assert.deepEqual(
      [...peer.reports].sort(),
      ["HTTP 404", "", "x".repeat(300), "last"].map((failure) => `registry.example: ${failure}`).sort(),
    );
  });
});

test("a resolver that cannot explain is told as such", async () => {
  await using peer = await resolver();
  await assert.rejects(explainSources(peer.channel), { reason: "UNAVAILABLE" });
});
