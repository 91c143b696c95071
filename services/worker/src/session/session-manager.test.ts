import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { Auth } from "@oci-worker/api/session/auth";
import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import { HealthService } from "@oci-worker/grpc/health";
import { implement } from "@oci-worker/grpc/router";
import { serveDuplex } from "@oci-worker/grpc/serve";
import { openTunnel } from "@oci-worker/grpc/tunnel";
import { pino } from "pino";
import type { SessionHello } from "./session.ts";
import { SessionManager } from "./session-manager.ts";

const unaborted = new AbortController().signal;
const log = pino({ level: "silent" });

function hello(id: string): SessionHello {
  const methods = ["/moby.filesync.v1.Auth/Credentials"];
  return { id, name: "", sharedKey: "", methods, healthTimeoutMs: undefined };
}

/** Attaches a client that serves credentials over a real tunnel. Ending it is the client hanging up. */
function attach(manager: SessionManager, id: string) {
  let toClient: AsyncIterable<Uint8Array> | undefined;
  async function* fromWorker() {
    yield* toClient ?? [];
  }
  const tunnel = openTunnel(fromWorker());
  const attached = manager.attach(hello(id), tunnel.outgoing, unaborted);
  toClient = attached;
  const auth = implement(Auth, { credentials: ({ Host }) => ({ Username: `user of ${Host}`, Secret: "s" }) });
  serveDuplex(tunnel.duplex, { implementations: [auth, new HealthService([]).implementation] });
  return { end: () => tunnel.duplex.destroy() };
}

describe("a session manager", () => {
  test("calls the services of an attached client", async () => {
    const manager = new SessionManager(log);
    const client = attach(manager, "s1");
    const session = await manager.get("s1", 60_000, unaborted);
    const { Username } = await createClient(Auth, session.channel).credentials({ Host: "h" });
    assert.equal(Username, "user of h");
    client.end();
  });

  test("knows a client's methods whatever the case of their letters", async () => {
    const manager = new SessionManager(log);
    const client = attach(manager, "s1");
    const session = await manager.get("s1", 60_000, unaborted);
    assert(session.supports("/moby.filesync.v1.auth/credentials"));
    assert(!session.supports("/moby.filesync.v1.Auth/FetchToken"));
    client.end();
  });

  test("waits for a session that comes after the build that wants it", async () => {
    const manager = new SessionManager(log);
    const waiting = manager.get("late", 10_000, unaborted);
    const client = attach(manager, "late");
    assert.equal((await waiting).id, "late");
    assert.equal((await manager.get("build-7:late", 0, unaborted)).id, "late");
    client.end();
  });

  test("ends a session with its connection, and does not wait for it again", async () => {
    const manager = new SessionManager(log);
    const client = attach(manager, "s1");
    const session = await manager.get("s1", 60_000, unaborted);
    const ended = new Promise((resolve) => session.signal.addEventListener("abort", resolve));
    client.end();
    await ended;
    assert.deepEqual(manager.live(), []);
    await assert.rejects(manager.get("s1", 60_000, unaborted), (error) => {
      assert(error instanceof NotFoundError);
      assert.match(error.message, /no active session for s1/);
      return true;
    });
  });

  test("ends a session whose call is ended before anything was asked of its client", async () => {
    const manager = new SessionManager(log);
    const call = new AbortController();
    // As of a client that has said that it sends no more.
    const incoming = (async function* () {})();
    const attached = manager.attach(hello("s1"), incoming, call.signal);
    const first = attached.next();
    await manager.get("s1", 60_000, unaborted);
    call.abort(new Error("the client has gone"));
    assert.deepEqual(await first, { done: true, value: undefined });
    assert.deepEqual(manager.live(), []);
  });

  test("gives up waiting when its caller does or its patience ends", async () => {
    const manager = new SessionManager(log);
    await assert.rejects(manager.get("never", 10, unaborted), NotFoundError);
    const controller = new AbortController();
    const waiting = manager.get("never", 60_000, controller.signal);
    controller.abort(new Error("gone"));
    await assert.rejects(waiting, /gone/);
  });

  test("refuses a session without an id and a second one of the same id", async () => {
    const manager = new SessionManager(log);
    const nothing = (async function* () {})();
    await assert.rejects(manager.attach(hello(""), nothing, unaborted).next(), InvalidArgumentError);
    const client = attach(manager, "s1");
    await manager.get("s1", 60_000, unaborted);
    await assert.rejects(manager.attach(hello("s1"), nothing, unaborted).next(), /attached already/);
    client.end();
  });

  test("notes which images the builds of a session use", async () => {
    const manager = new SessionManager(log);
    const client = attach(manager, "s1");
    const session = await manager.get("s1", 60_000, unaborted);
    manager.noteReference(["s1", "unknown"], "docker.io/library/debian:12");
    assert.deepEqual([...session.references], ["docker.io/library/debian:12"]);
    client.end();
  });
});
