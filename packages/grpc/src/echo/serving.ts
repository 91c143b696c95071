import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ServiceImpl } from "@connectrpc/connect";
import { implement } from "../server/router.ts";
import { type ListenOptions, serve } from "../server/serve.ts";
import { Echo } from "./service.ts";

export type EchoHandlers = Partial<ServiceImpl<typeof Echo>>;

/** Serves {@link Echo} on a socket of its own, which is gone with the scope. */
export async function serving(handlers: EchoHandlers = echoing, options: Partial<ListenOptions> = {}) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "grpc-")));
  const path = join(directory.path, "echo.sock");
  const implementations = [implement(Echo, handlers)];
  const server = undo.use(await serve({ addresses: [{ path, mode: 0o600 }], implementations, ...options }));
  const owned = undo.move();
  return { path, server, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Handlers that show what came in. */
export const echoing: EchoHandlers = {
  one: ({ value }) => ({ value: `${value}!` }),
  async *count({ value }) {
    for (let number = 1; number <= Number(value); number += 1) {
      yield { value: String(number) };
    }
  },
  async join(requests) {
    return { value: (await valuesOf(requests)).join("+") };
  },
  async *talk(requests) {
    for await (const { value } of requests) {
      yield { value: value.toUpperCase() };
    }
  },
};

/** The texts of a stream, when it has ended. */
export async function valuesOf(messages: AsyncIterable<{ readonly value: string }>): Promise<string[]> {
  const values: string[] = [];
  for await (const { value } of messages) {
    values.push(value);
  }
  return values;
}

/** A stream of `values`. */
export async function* texts(...values: string[]) {
  for (const value of values) {
    yield { value };
  }
}
