import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { duplexChannel } from "./client/channel.ts";
import { Echo } from "./echo/service.ts";
import { echoing, texts, valuesOf } from "./echo/serving.ts";
import { implement } from "./server/router.ts";
import { serveDuplex } from "./server/serve.ts";
import { openTunnel, type Tunnel } from "./tunnel.ts";

/** Two tunnels whose ends are joined: what goes out of one comes into the other. */
function tunnelPair(): { readonly server: Tunnel; readonly client: Tunnel } {
  let client: Tunnel | undefined;
  async function* fromClient() {
    yield* client?.outgoing ?? [];
  }
  const server = openTunnel(fromClient());
  client = openTunnel(server.outgoing);
  return { server, client };
}

describe("a tunnel", () => {
  test("carries gRPC with the roles of client and server either way round", async () => {
    const { server, client } = tunnelPair();
    serveDuplex(server.duplex, { implementations: [implement(Echo, echoing)] });
    using channel = duplexChannel(client.duplex, "the tunnel");
    const echo = createClient(Echo, channel);
    assert.equal((await echo.one({ value: "a" })).value, "a!");
    assert.deepEqual(await valuesOf(echo.talk(texts("x", "y"))), ["X", "Y"]);
  });

  test("carries many megabytes both ways at once", async () => {
    const { server, client } = tunnelPair();
    serveDuplex(server.duplex, { implementations: [implement(Echo, { one: ({ value }) => ({ value }) })] });
    using channel = duplexChannel(client.duplex, "the tunnel");
    const echo = createClient(Echo, channel);
    const large = Array.from({ length: 12 }, (_, index) => String(index).repeat(2 * 1024 * 1024));
    const answers = await Promise.all(large.map((value) => echo.one({ value })));
    assert(answers.every(({ value }, index) => value === large[index]));
  });

  test("ends the calls on it and the other end when one end goes away", async () => {
    const { server, client } = tunnelPair();
    const started = Promise.withResolvers<void>();
    const aborted = Promise.withResolvers<void>();
    serveDuplex(server.duplex, {
      implementations: [
        implement(Echo, {
          one: (_request, { signal }) => {
            signal.addEventListener("abort", () => aborted.resolve());
            started.resolve();
            return new Promise(() => undefined);
          },
        }),
      ],
    });
    using channel = duplexChannel(client.duplex, "the tunnel");
    const call = assert.rejects(createClient(Echo, channel).one({}), { code: Code.Unavailable });
    await started.promise;
    client.duplex.destroy();
    await Promise.all([call, aborted.promise]);
    await assert.rejects(createClient(Echo, channel).one({}), { code: Code.Unavailable });
  });

  test("ends what is written when what comes in has ended", async () => {
    const { duplex, outgoing } = openTunnel(
      (async function* () {
        yield Buffer.from("abc");
      })(),
    );
    const [read, written] = await Promise.all([Array.fromAsync(duplex), Array.fromAsync(outgoing)]);
    assert.equal(Buffer.concat(read).toString(), "abc");
    assert.deepEqual(written, []);
  });

  test("ends with the error of its source", async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("abc");
      throw new Error("the line is dead");
    }
    const { duplex } = openTunnel(broken());
    await assert.rejects(async () => {
      for await (const chunk of duplex) {
        assert.equal(String(chunk), "abc");
      }
    }, /the line is dead/);
  });

  test("gives what was written in order and ends when its writer does", async () => {
    const silent = Promise.withResolvers<IteratorResult<Uint8Array>>();
    const { duplex, outgoing } = openTunnel({
      [Symbol.asyncIterator]: () => ({ next: () => silent.promise }),
    });
    for (let number = 0; number < 100; number += 1) {
      duplex.write(`${number},`);
    }
    duplex.end();
    const chunks: Uint8Array[] = [];
    for await (const chunk of outgoing) {
      chunks.push(chunk);
    }
    assert.equal(
      Buffer.concat(chunks).toString(),
      Array.from({ length: 100 }, (_, number) => `${number},`).join(""),
    );
  });
});
