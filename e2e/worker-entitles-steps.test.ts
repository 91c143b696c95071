import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Control } from "@oci-worker/api/buildkit/control";
import { LLBBridge } from "@oci-worker/api/buildkit/llb-bridge";
import { BuildError } from "@oci-worker/client/build-error";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image, type RunOptions, run } from "@oci-worker/llb/build";
import type { Reference } from "@oci-worker/oci/reference";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

async function fixture(args: readonly string[]) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const reference = await pushTo(registry, await createImage());
  const worker = undo.use(await startWorker({ args }));
  const owned = undo.move();
  return { reference, worker, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const definition = (reference: Reference, more: Partial<RunOptions>) =>
  definitionOf(
    run({
      root: image(reference),
      args: ["sh", "-c", "cat /proc/self/status"],
      env: ["PATH=/bin"],
      ...more,
    }).root,
  );

async function statusOf(
  { client }: WorkerPeer,
  asked: ReturnType<typeof definition>,
  entitlements: readonly string[],
) {
  const build = client.solve(asked, { entitlements });
  let stdout = "";
  for await (const { logs } of build.status) {
    stdout += logs.map(({ data }) => Buffer.from(data).toString()).join("");
  }
  await build.result;
  return stdout;
}

describe("a step beyond the sandbox", () => {
  const allowed = ["--allow-insecure-entitlement", "security.insecure"];

  test("runs if the client asks for it and the operator allows it", async () => {
    await using on = await fixture(allowed);
    const status = await statusOf(on.worker, definition(on.reference, { security: "insecure" }), [
      "security.insecure",
    ]);
    assert.match(status, /^Seccomp:\t0$/m);
    assert.match(await statusOf(on.worker, definition(on.reference, {}), []), /^Seccomp:\t2$/m);
  });

  test("is refused if one of the two does not, by whatever way it comes (CVE-2024-23653)", async () => {
    await using on = await fixture(allowed);
    await using strict = await startWorker();
    const asked = definition(on.reference, { security: "insecure" });
    const refused = (error: unknown) => {
      assert(error instanceof BuildError || error instanceof ConnectError, String(error));
      assert.match(error.message, /security\.insecure is not allowed/);
      return true;
    };
    await assert.rejects(statusOf(on.worker, asked, []), refused);
    await assert.rejects(statusOf(on.worker, asked, ["device"]), refused);
    await assert.rejects(statusOf(strict, asked, ["security.insecure"]), refused);
    const onHostNetwork = definition(on.reference, { network: "host" });
    await assert.rejects(
      statusOf(on.worker, onHostNetwork, ["network.host"]),
      /network\.host is not allowed/,
    );

    // Whatever the build comes to need.
    const plain = definition(on.reference, {});
    await assert.rejects(
      statusOf(strict, plain, ["network.host"]),
      /granting entitlement network\.host is not allowed by build daemon configuration/,
    );
    await assert.rejects(
      statusOf(strict, plain, ["network.all"]),
      /unknown entitlement "network\.all", want one of network\.host, security\.insecure, device/,
    );

    // The gateway, as a frontend calls it, and Solve itself, as clients before v0.11 do.
    using channel = unixChannel(on.worker.address);
    const control = createClient(Control, channel);
    const bridge = createClient(LLBBridge, channel);
    await assert.rejects(control.solve({ Ref: "direct", Definition: asked }), (error) => {
      assert(error instanceof ConnectError);
      assert.equal(error.code, Code.PermissionDenied);
      return refused(error);
    });
    const solving = control.solve({ Ref: "driven", Entitlements: [] });
    const headers = { "buildkit-controlapi-buildid": "driven" };
    await assert.rejects(bridge.solve({ Definition: asked }, { headers }), refused);
    await bridge.return({}, { headers });
    await solving;
  });
});
