import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { pino } from "pino";
import type { Backend, BackendName, Obstacle } from "./backend.ts";
import { chooseBackend } from "./choose.ts";
import { FuseOverlayfs } from "./fuse-overlayfs/fuse-overlayfs.ts";
import { Overlayfs } from "./overlayfs/overlayfs.ts";

const obstacle: Obstacle = { obstacle: "no such kernel" };
const neither = { overlayfs: obstacle, "fuse-overlayfs": { obstacle: "no such program" } };
const options = { options: [], idMapObstacle: undefined, upperdirLabel: false };
const overlayfs: Backend = new Overlayfs(options);
const fuseOverlayfs: Backend = new FuseOverlayfs(undefined);
/** Stands for another backend: only its name counts here. */
const native: Backend = Object.assign(new Overlayfs(options), { name: "native" });
const stargz: Backend = Object.assign(new Overlayfs(options), { name: "stargz" });

type Host = Partial<Record<BackendName, Backend | Obstacle>>;

/** Chooses on a host; returns also which backends were probed and what was logged. */
async function choose(
  wanted: BackendName | "auto",
  existing: BackendName | undefined,
  host: Host = {},
  excluded: readonly BackendName[] = [],
) {
  const probed: string[] = [];
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: "debug" }, { write: (line) => lines.push(JSON.parse(line)) });
  const probe = (name: BackendName, backend: Backend) => async () => {
    probed.push(name);
    return host[name] ?? backend;
  };
  const probes = {
    overlayfs: probe("overlayfs", overlayfs),
    "fuse-overlayfs": probe("fuse-overlayfs", fuseOverlayfs),
    native: probe("native", native),
    stargz: probe("stargz", stargz),
  };
  const choice = await chooseBackend({ root: "/r", wanted, excluded, existing, probes }, log);
  return { ...choice, probed, lines };
}

describe("chooseBackend", () => {
  test("auto takes overlayfs where it runs, and looks no further", async () => {
    const { backend, probed } = await choose("auto", undefined);
    assert.equal(backend, overlayfs);
    assert.deepEqual(probed, ["overlayfs"]);
  });

  test("auto takes fuse-overlayfs where overlayfs does not run, and keeps and logs why", async () => {
    const { backend, reason, passedOver, lines } = await choose("auto", undefined, { overlayfs: obstacle });
    assert.equal(backend, fuseOverlayfs);
    assert.equal(reason, "first that runs here");
    assert.deepEqual(passedOver, [{ name: "overlayfs", obstacle: "no such kernel" }]);
    const warnings = lines.filter(({ level }) => level === 40);
    assert.deepEqual(
      warnings.map((line) => [line["backend"], line["obstacle"]]),
      [["overlayfs", "no such kernel"]],
    );
  });

  test("auto takes native last, and warns of that itself", async () => {
    const { backend, lines } = await choose("auto", undefined, neither);
    assert.equal(backend, native);
    const warning = lines.findLast(({ level }) => level === 40);
    assert.equal(warning?.["backend"], "native");
    assert.match(String(warning?.["msg"]), /full copy/);
  });

  test("auto never takes what the operator excludes, and says so if nothing else runs", async () => {
    const { backend, passedOver, probed } = await choose("auto", undefined, {}, ["overlayfs"]);
    assert.equal(backend, fuseOverlayfs);
    assert.deepEqual(passedOver, [{ name: "overlayfs", obstacle: "autoExclude refuses it" }]);
    assert.deepEqual(probed, ["fuse-overlayfs"]);
    await assert.rejects(choose("auto", undefined, neither, ["native"]), (error) => {
      assert(error instanceof FailedPreconditionError);
      assert.match(error.message, /overlayfs: no such kernel; fuse-overlayfs: no such program; native: auto/);
      return true;
    });
  });

  test("auto does not go on with snapshots of a backend that the operator excludes", async () => {
    await assert.rejects(choose("auto", "native", {}, ["native"]), FailedPreconditionError);
  });

  test("what the operator excludes from auto can be named", async () => {
    assert.equal((await choose("native", undefined, {}, ["native"])).backend, native);
  });

  test("auto fails where nothing runs", async () => {
    await assert.rejects(
      choose("auto", undefined, { ...neither, native: obstacle }),
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
