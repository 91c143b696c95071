import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { pino } from "pino";
import type { Backend, BackendName, Obstacle } from "./backend.ts";
import { chooseBackend } from "./choose.ts";
import { Overlayfs } from "./overlayfs/overlayfs.ts";

const obstacle: Obstacle = { obstacle: "no such kernel" };
const options = { options: [], idMapObstacle: undefined, upperdirLabel: false };
const overlayfs: Backend = new Overlayfs(options);
/** Stands for another backend: only its identity counts here. */
const native: Backend = new Overlayfs(options);

interface Host {
  readonly overlayfs?: Backend | Obstacle;
  readonly native?: Backend | Obstacle;
}

/** Chooses on a host; returns also which backends were probed and what was logged. */
async function choose(wanted: BackendName | "auto", existing: BackendName | undefined, host: Host = {}) {
  const probed: string[] = [];
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: "debug" }, { write: (line) => lines.push(JSON.parse(line)) });
  const probes = {
    overlayfs: async () => {
      probed.push("overlayfs");
      return host.overlayfs ?? overlayfs;
    },
    native: async () => {
      probed.push("native");
      return host.native ?? native;
    },
  };
  const backend = await chooseBackend({ root: "/r", wanted, existing, probes }, log);
  return { backend, probed, lines };
}

describe("chooseBackend", () => {
  test("auto takes overlayfs where it runs, and looks no further", async () => {
    const { backend, probed } = await choose("auto", undefined);
    assert.equal(backend, overlayfs);
    assert.deepEqual(probed, ["overlayfs"]);
  });

  test("auto takes native where overlayfs does not run, and warns why", async () => {
    const { backend, lines } = await choose("auto", undefined, { overlayfs: obstacle });
    assert.equal(backend, native);
    const warning = lines.find(({ level }) => level === 40);
    assert.equal(warning?.["backend"], "overlayfs");
    assert.equal(warning?.["obstacle"], "no such kernel");
  });

  test("auto fails where nothing runs", async () => {
    await assert.rejects(
      choose("auto", undefined, { overlayfs: obstacle, native: obstacle }),
      FailedPreconditionError,
    );
  });

  test("auto takes the backend of the snapshots that are there, although another is preferred", async () => {
    const { backend, probed } = await choose("auto", "native");
    assert.equal(backend, native);
    assert.deepEqual(probed, ["native"]);
  });

  test("auto fails rather than hide snapshots whose backend does not run any more", async () => {
    await assert.rejects(
      choose("auto", "overlayfs", { overlayfs: obstacle }),
      (error) =>
        error instanceof FailedPreconditionError && /overlayfs on \/r: no such kernel/.test(error.message),
    );
  });

  test("a backend that was named is taken although another is preferred", async () => {
    const { backend, probed } = await choose("native", undefined);
    assert.equal(backend, native);
    assert.deepEqual(probed, ["native"]);
  });

  test("a backend that was named and does not run is an error with the obstacle", async () => {
    await assert.rejects(
      choose("overlayfs", undefined, { overlayfs: obstacle }),
      (error) => error instanceof FailedPreconditionError && /no such kernel/.test(error.message),
    );
  });

  test("a backend that was named is refused where another one has its snapshots", async () => {
    await assert.rejects(
      choose("native", "overlayfs"),
      (error) =>
        error instanceof FailedPreconditionError && /holds snapshots of overlayfs/.test(error.message),
    );
  });
});
