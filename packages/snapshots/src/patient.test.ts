import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AlreadyExistsError, NotFoundError, UnavailableError } from "@oci-worker/errdefs";
import type { Mount } from "@oci-worker/mounts/mount";
import { patient } from "./patient.ts";
import type { Info, Kind, Snapshotter } from "./snapshotter.ts";
import { walkPages } from "./walk-pages.ts";

const mount: Mount = { type: "bind", source: "/x", options: [] };

/** Keeps snapshots, and loses calls: before it has done what they ask for, or afterwards. */
class Losing implements Snapshotter {
  readonly snapshots = new Map<string, Kind>();
  /** What happens to the calls to come, in their order; nothing once it is empty. */
  readonly losses: ("before" | "after")[] = [];

  async #lossy<T>(work: () => T): Promise<T> {
    const loss = this.losses.shift();
    if (loss === "before") {
      throw new UnavailableError("the connection was lost");
    }
    const result = work();
    if (loss === "after") {
      throw new UnavailableError("the connection was lost");
    }
    return result;
  }

  #make(key: string, kind: Kind): Promise<Mount[]> {
    return this.#lossy(() => {
      if (this.snapshots.has(key)) {
        throw new AlreadyExistsError(`${key} is there`);
      }
      this.snapshots.set(key, kind);
      return [mount];
    });
  }

  prepare = (key: string) => this.#make(key, "active");
  view = (key: string) => this.#make(key, "view");
  mounts = (key: string) => this.#lossy(() => (this.#kind(key) === "committed" ? [] : [mount]));
  stat = (key: string) => this.#lossy(() => infoOf(key, this.#kind(key)));
  update = this.stat;
  usage = () => this.#lossy(() => ({ inodes: 1n, sizeBytes: 1n }));
  cleanup = () => this.#lossy(() => undefined);
  commit = (name: string, key: string) =>
    this.#lossy(() => {
      this.#kind(key);
      if (this.snapshots.has(name)) {
        throw new AlreadyExistsError(`${name} is there`);
      }
      this.snapshots.delete(key);
      this.snapshots.set(name, "committed");
    });
  remove = (key: string) =>
    this.#lossy(() => {
      this.#kind(key);
      this.snapshots.delete(key);
    });

  walk = () => walkPages(this.pages());
  async *pages(): AsyncGenerator<Info[]> {
    for (const [name, kind] of this.snapshots) {
      yield [infoOf(name, kind)];
      await this.#lossy(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #kind(key: string): Kind {
    const kind = this.snapshots.get(key);
    if (kind === undefined) {
      throw new NotFoundError(`there is no ${key}`);
    }
    return kind;
  }
}

function infoOf(name: string, kind: Kind): Info {
  return { name, kind, parent: undefined, labels: {}, createdAtNs: 0n, updatedAtNs: 0n };
}

function fixture(...losses: ("before" | "after")[]) {
  const inner = new Losing();
  inner.losses.push(...losses);
  return { inner, snapshotter: patient(inner) };
}

for (const losses of [["before"], ["after"], ["before", "after", "before"], ["after", "after"]] as const) {
  describe(`calls that are lost ${losses.join(", then ")} they are done`, () => {
    test("prepare and view make a snapshot", async () => {
      for (const verb of ["prepare", "view"] as const) {
        const { snapshotter, inner } = fixture(...losses);
        assert.deepEqual(await snapshotter[verb]("key", undefined, {}), [mount]);
        assert.equal(inner.snapshots.size, 1);
      }
    });

    test("commit gives the name", async () => {
      const { snapshotter, inner } = fixture();
      await snapshotter.prepare("key", undefined, {});
      inner.losses.push(...losses);
      await snapshotter.commit("name", "key", {});
      assert.deepEqual([...inner.snapshots], [["name", "committed"]]);
    });

    test("remove removes", async () => {
      const { snapshotter, inner } = fixture();
      await snapshotter.prepare("key", undefined, {});
      inner.losses.push(...losses);
      await snapshotter.remove("key");
      assert.equal(inner.snapshots.size, 0);
    });

    test("walk tells everything once", async () => {
      const { snapshotter, inner } = fixture();
      for (const key of ["a", "b", "c"]) {
        await snapshotter.prepare(key, undefined, {});
      }
      inner.losses.push(...losses);
      const names = (await Array.fromAsync(snapshotter.walk([]))).map(({ name }) => name);
      assert.deepEqual(names, ["a", "b", "c"]);
    });

    test("the others answer", async () => {
      const { snapshotter, inner } = fixture();
      await snapshotter.prepare("key", undefined, {});
      for (const call of [
        () => snapshotter.stat("key"),
        () => snapshotter.update("key", { replace: {} }),
        () => snapshotter.usage("key"),
        () => snapshotter.mounts("key"),
        () => snapshotter.cleanup(),
      ]) {
        inner.losses.push(...losses);
        await call();
      }
    });
  });
}

describe("a call", () => {
  test("that fails at once fails as it does", async () => {
    const { snapshotter } = fixture();
    await snapshotter.prepare("key", undefined, {});
    await assert.rejects(snapshotter.prepare("key", undefined, {}), AlreadyExistsError);
    await assert.rejects(snapshotter.remove("other"), NotFoundError);
    await assert.rejects(snapshotter.commit("name", "other", {}), NotFoundError);
  });

  test("whose key was another's before it was lost is found out by the name alone", async () => {
    const { snapshotter } = fixture("before");
    await assert.rejects(snapshotter.commit("name", "never-made", {}), NotFoundError);
  });

  test("to commit that finds the name taken by another one fails", async () => {
    const { snapshotter, inner } = fixture();
    await snapshotter.prepare("one", undefined, {});
    await snapshotter.prepare("two", undefined, {});
    await snapshotter.commit("name", "one", {});
    inner.losses.push("before");
    await assert.rejects(snapshotter.commit("name", "two", {}), AlreadyExistsError);
  });

  test("that is lost again and again fails", async () => {
    const { snapshotter } = fixture(...Array.from({ length: 20 }, () => "before" as const));
    await assert.rejects(snapshotter.stat("key"), UnavailableError);
  });

  test("is not made again when it has taken all the patience that there is", async () => {
    const { inner } = fixture("before");
    await assert.rejects(patient(inner, 0).prepare("key", undefined, {}), UnavailableError);
    assert.equal(inner.snapshots.size, 0);
  });

  test("that is lost is not made again for a caller who has left", async () => {
    const { snapshotter, inner } = fixture("before");
    await assert.rejects(snapshotter.prepare("key", undefined, {}, AbortSignal.abort()), {
      name: "AbortError",
    });
    assert.equal(inner.snapshots.size, 0);
  });
});
