import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { DataLossError, InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { applyLayer, type LayerToApply, type Progress } from "./apply.ts";
import { archiveOf, directory, file, layerOf, makeScene } from "./scene.ts";

const never = new AbortController().signal;
const members = [directory("etc"), file("etc/hosts", "127.0.0.1 localhost\n")];

function rejectsWith(
  layer: LayerToApply,
  error: new (message: string) => Error,
  message: RegExp,
  signal: AbortSignal = never,
): Promise<void> {
  return assert.rejects(
    applyLayer(layer, signal),
    (thrown) => thrown instanceof error && message.test(thrown.message),
  );
}

describe("applyLayer", () => {
  const compressions = { gzip: gzipSync, zstd: zstdCompressSync, none: (archive: Buffer) => archive };
  for (const [name, compress] of Object.entries(compressions)) {
    test(`applies a layer compressed by ${name} and says what it was`, async () => {
      await using scene = await makeScene();
      const archive = await archiveOf(members);
      const layer = await layerOf(scene, archive, compress);
      assert.deepEqual(await applyLayer(layer, never), {
        diffId: digestOf(archive),
        uncompressedBytes: archive.length,
        entries: 2,
        decompressor: name === "none" ? "none" : "node:zlib",
        skipped: [],
        skippedCount: 0,
      });
      assert.deepEqual(readdirSync(join(scene.root, "etc")), ["hosts"]);
    });
  }

  test("takes a blob of no bytes for an empty layer", async () => {
    await using scene = await makeScene();
    const nothing = await layerOf(scene, Buffer.alloc(0), (archive) => archive);
    const applied = await applyLayer(nothing, never);
    assert.deepEqual([applied.entries, applied.uncompressedBytes, applied.diffId], [0, 0, digestOf("")]);
  });

  test("hashes what stands behind the end of the archive too", async () => {
    await using scene = await makeScene();
    const archive = Buffer.concat([await archiveOf(members), Buffer.alloc(3_000_000, "trailer")]);
    const layer = await layerOf(scene, archive);
    assert.equal((await applyLayer(layer, never)).diffId, digestOf(archive));
  });

  test("refuses a blob of another size before it looks at it", async () => {
    await using scene = await makeScene();
    const layer = await layerOf(scene, await archiveOf(members));
    const wrong = { ...layer, sizeBytes: layer.sizeBytes + 1 };
    await rejectsWith(
      wrong,
      DataLossError,
      new RegExp(`its blob has ${layer.sizeBytes} bytes, want ${wrong.sizeBytes}`),
    );
    assert.deepEqual(readdirSync(scene.root), []);
  });

  test("refuses a blob with another digest, naming both", async () => {
    await using scene = await makeScene();
    const layer = await layerOf(scene, await archiveOf(members));
    const digest = digestOf("something else");
    await rejectsWith(
      { ...layer, digest },
      DataLossError,
      new RegExp(`its blob has digest ${layer.digest}, want ${digest}`),
    );
  });

  test("refuses content with another diffID, naming both", async () => {
    await using scene = await makeScene();
    const layer = await layerOf(scene, await archiveOf(members));
    const diffId = digestOf("something else");
    await rejectsWith(
      { ...layer, diffId },
      DataLossError,
      new RegExp(`its content has diffID ${layer.diffId}, want ${diffId}`),
    );
  });

  test("blames the blob, not the archive in it, when the blob is not what its digest says", async () => {
    await using scene = await makeScene();
    const layer = await layerOf(scene, await archiveOf(members));
    const truncated = gzipSync(await archiveOf(members)).subarray(0, -20);
    await writeFile(layer.blobPath, truncated);
    await rejectsWith({ ...layer, sizeBytes: truncated.length }, DataLossError, /its blob has digest/);
  });

  const malformed = [
    {
      name: "gzip that is cut short",
      blob: (archive: Buffer) => gzipSync(archive).subarray(0, -20),
      message: /Cannot decompress gzip: unexpected end of file/,
    },
    {
      name: "gzip followed by garbage",
      blob: (archive: Buffer) => Buffer.concat([gzipSync(archive), Buffer.alloc(9)]),
      message: /after its end follow 9 bytes/,
    },
    {
      name: "an archive that is cut short",
      blob: (archive: Buffer) => gzipSync(archive.subarray(0, 1100)),
      message: /Cannot read tar: it ends early/,
    },
    {
      name: "an archive with a wrong checksum",
      blob: (archive: Buffer) => gzipSync(Buffer.concat([Buffer.from("x"), archive.subarray(1)])),
      message: /checksum is/,
    },
    {
      name: "garbage",
      blob: () => Buffer.from("this is no layer".repeat(100)),
      message: /Cannot read tar header/,
    },
    { name: "a web page", blob: () => Buffer.from("<html>not found</html>"), message: /it ends early/ },
  ];
  for (const { name, blob, message } of malformed) {
    test(`refuses ${name}`, async () => {
      await using scene = await makeScene();
      const layer = await layerOf(scene, await archiveOf(members), blob);
      await rejectsWith(layer, InvalidArgumentError, message);
    });
  }

  test("stops a bomb at the size that is allowed", async () => {
    await using scene = await makeScene();
    const archive = await archiveOf([file("small", "s"), file("bomb", "0".repeat(20_000_000))]);
    const layer = await layerOf(scene, archive);
    await rejectsWith(
      { ...layer, maxUnpackedBytes: 10_000_000 },
      ResourceExhaustedError,
      /"bomb": with it the layer's files have more than 10000000 bytes/,
    );
    assert.deepEqual(readdirSync(scene.root), ["small"]);
    const trailing = Buffer.concat([await archiveOf(members), Buffer.alloc(20_000_000)]);
    await rejectsWith(
      { ...(await layerOf(scene, trailing)), maxUnpackedBytes: 10_000_000 },
      ResourceExhaustedError,
      /unpacks to more than 10000000 bytes/,
    );
  });

  test("counts the holes of a sparse file against the size that is allowed", async () => {
    await using scene = await makeScene();
    const script = `cd ${scene.scratch}; truncate -s 1T hole; tar --sparse --format=pax -cf hole.tar hole`;
    assert.equal(spawnSync("sh", ["-c", script]).status, 0);
    const archive = spawnSync("cat", [join(scene.scratch, "hole.tar")]).stdout;
    assert.equal((await applyLayer(await layerOf(scene, archive), never)).entries, 1);
    assert.deepEqual(
      [statSync(join(scene.root, "hole")).size, statSync(join(scene.root, "hole")).blocks],
      [2 ** 40, 0],
    );
    await rejectsWith(
      { ...(await layerOf(scene, archive)), maxUnpackedBytes: 2 ** 39 },
      ResourceExhaustedError,
      /"hole": with it/,
    );
  });

  test("says which directory is missing", async () => {
    await using scene = await makeScene();
    const layer = await layerOf(scene, await archiveOf(members));
    await rejectsWith(
      { ...layer, directory: `${scene.root}/none` },
      InvalidArgumentError,
      /ENOENT.*root\/none/,
    );
  });

  test("writes nothing into the layer that Node would like to keep", async () => {
    await using scene = await makeScene();
    const layer = await layerOf(scene, await archiveOf(members));
    const script = `
      const { applyLayer } = await import(${JSON.stringify(new URL("./apply.ts", import.meta.url).href)});
      await applyLayer(${JSON.stringify(layer)}, new AbortController().signal);
    `;
    const kept = join(scene.scratch, "kept");
    const env = { ...process.env, NODE_V8_COVERAGE: kept, NODE_COMPILE_CACHE: kept };
    const args = ["--cpu-prof", `--cpu-prof-dir=${kept}`, "--input-type=module", "--eval", script];
    const { status, stderr } = spawnSync(process.execPath, args, { env, encoding: "utf8" });
    assert.equal(status, 0, stderr);
    assert(readdirSync(kept).length >= 3, "Node keeps something for the process");
    assert.deepEqual(readdirSync(scene.root, { recursive: true }).sort(), ["etc", "etc/hosts"]);
  });
});

describe("applyLayer, canceled", () => {
  test("before it begins, does nothing", async () => {
    await using scene = await makeScene();
    const layer = await layerOf(scene, await archiveOf(members));
    const reason = new Error("no longer wanted");
    await assert.rejects(applyLayer(layer, AbortSignal.abort(reason)), reason);
    assert.deepEqual(readdirSync(scene.root), []);
  });

  test("while its thread starts, unpacks nothing", async () => {
    await using scene = await makeScene();
    const layer = await layerOf(scene, await archiveOf(members));
    const reason = new Error("no longer wanted");
    const canceler = new AbortController();
    const applying = applyLayer(layer, canceler.signal);
    canceler.abort(reason);
    await assert.rejects(applying, reason);
    assert.deepEqual(readdirSync(scene.root), []);
  });

  test("in the middle of a file, ends there", async () => {
    await using scene = await makeScene();
    const sizeBytes = 512 * 1024 * 1024;
    const archive = await archiveOf([
      file("first"),
      { ...file("big"), content: Buffer.alloc(sizeBytes) },
      file("last"),
    ]);
    const layer = await layerOf(scene, archive, zstdCompressSync);
    const reason = new Error("no longer wanted");
    const canceler = new AbortController();
    await assert.rejects(
      applyLayer({ ...layer, onProgress: () => canceler.abort(reason) }, canceler.signal),
      reason,
    );
    assert.deepEqual(readdirSync(scene.root).sort(), ["big", "first"]);
    assert(statSync(join(scene.root, "big")).size < sizeBytes);
  });
});

describe("a layer that is large enough for a program to decompress", () => {
  const content = randomBytes(6_000_000);
  const programs = [
    { name: "igzip", compress: gzipSync },
    { name: "zstd", compress: zstdCompressSync },
  ];
  for (const { name, compress } of programs) {
    const large = async () => archiveOf([{ ...file("large"), content }, file("last", "last")]);

    test(`${name}: is applied like any other`, async () => {
      await using scene = await makeScene();
      const archive = await large();
      const progress: number[] = [];
      const layer = await layerOf(scene, archive, compress);
      const onProgress = ({ readBytes }: Progress) => void progress.push(readBytes);
      const applied = await applyLayer({ ...layer, onProgress }, never);
      assert.deepEqual([applied.entries, applied.diffId, applied.decompressor], [2, digestOf(archive), name]);
      assert(readFileSync(join(scene.root, "large")).equals(content));
      assert(progress.every((bytes) => bytes > 0 && bytes <= layer.sizeBytes));
    });

    const malformed = [
      { what: "is cut short", damage: (blob: Buffer) => blob.subarray(0, -1000) },
      { what: "is cut short in its last bytes", damage: (blob: Buffer) => blob.subarray(0, -2) },
      {
        what: "begins like one and is not",
        damage: (blob: Buffer) => Buffer.concat([blob.subarray(0, 4), content]),
      },
      {
        what: "is followed by garbage",
        damage: (blob: Buffer) => Buffer.concat([blob, Buffer.from("garbage")]),
      },
      { what: "is followed by zeros", damage: (blob: Buffer) => Buffer.concat([blob, Buffer.alloc(512)]) },
    ];
    for (const { what, damage } of malformed) {
      test(`${name}: is refused if it ${what}`, async () => {
        await using scene = await makeScene();
        const layer = await layerOf(scene, await large(), (archive) => damage(compress(archive)));
        await rejectsWith(layer, InvalidArgumentError, /Cannot decompress/);
      });
    }

    test(`${name}: is applied if it has several members or frames`, async () => {
      await using scene = await makeScene();
      const archive = await large();
      const halves = (whole: Buffer) => [whole.subarray(0, 3_000_001), whole.subarray(3_000_001)];
      const layer = await layerOf(scene, archive, (whole) =>
        Buffer.concat(halves(whole).map((half) => compress(half))),
      );
      assert.equal((await applyLayer(layer, never)).diffId, digestOf(archive));
      const garbage = (whole: Buffer) =>
        Buffer.concat([...halves(whole).map((half) => compress(half)), Buffer.from("more")]);
      await rejectsWith(await layerOf(scene, archive, garbage), InvalidArgumentError, /Cannot decompress/);
    });

    test(`${name}: is refused as data loss if the blob is not what its digest says`, async () => {
      await using scene = await makeScene();
      const layer = await layerOf(scene, await large(), (archive) => compress(archive).subarray(0, -100));
      await rejectsWith({ ...layer, digest: digestOf("") }, DataLossError, /its blob has digest/);
    });

    test(`${name}: is applied where no process may become nobody`, async () => {
      await using scene = await makeScene();
      const layer = await layerOf(scene, await large(), compress);
      const script = `
        const { applyLayer } = await import(${JSON.stringify(new URL("./apply.ts", import.meta.url).href)});
        const { decompressor } = await applyLayer(${JSON.stringify(layer)}, new AbortController().signal);
        process.stdout.write(decompressor);
      `;
      const node = [process.execPath, "--input-type=module", "--eval", script];
      const { stdout, stderr } = spawnSync("/usr/bin/setpriv", ["--bounding-set=-setuid,-setgid", ...node], {
        encoding: "utf8",
      });
      assert.equal(stdout, "node:zlib", stderr);
      assert(readFileSync(join(scene.root, "large")).equals(content));
    });

    test(`${name}: can be canceled, refused or unpacked without leaving anything behind`, async () => {
      await using scene = await makeScene();
      const layer = await layerOf(scene, await large(), compress);
      const bad = await layerOf(
        scene,
        await archiveOf([file("../climbs"), { ...file("large"), content }]),
        compress,
      );
      const run = async () => {
        await applyLayer(layer, never);
        await rejectsWith(bad, InvalidArgumentError, /climbs out/);
        const canceler = new AbortController();
        const applying = applyLayer(layer, canceler.signal);
        setImmediate(() => canceler.abort(new Error("canceled")));
        await assert.rejects(applying, /canceled/);
      };
      await run();
      const before = leftovers();
      await run();
      await run();
      assert.deepEqual(leftovers(), before);
    });
  }
});

/** Descriptors, threads and children of this process. */
function leftovers() {
  return {
    descriptors: readdirSync("/proc/self/fd").length,
    threads: readdirSync("/proc/self/task").length,
    children: readFileSync(`/proc/self/task/${process.pid}/children`, "utf8"),
  };
}

test("applyLayer leaves no descriptor and no thread behind, however it ends", async () => {
  await using scene = await makeScene();
  const good = await layerOf(scene, await archiveOf([file("f", "x".repeat(100_000))]));
  const half = await layerOf(scene, (await archiveOf([file("f", "x".repeat(100_000))])).subarray(0, 50_000));
  const run = async () => {
    await applyLayer(good, never);
    await assert.rejects(applyLayer(half, never), InvalidArgumentError);
    await assert.rejects(applyLayer({ ...good, diffId: digestOf("") }, never), DataLossError);
    const canceler = new AbortController();
    const applying = applyLayer(good, canceler.signal);
    canceler.abort(new Error("canceled"));
    await assert.rejects(applying, /canceled/);
  };
  await run();
  const before = leftovers();
  await run();
  await run();
  assert.deepEqual(leftovers(), before);
});

test("applyLayer works on several layers at a time, and the process keeps its own root", async () => {
  await using one = await makeScene();
  await using other = await makeScene();
  const [a, b] = [
    await layerOf(one, await archiveOf([file("a")])),
    await layerOf(other, await archiveOf([file("b")])),
  ];
  await Promise.all([applyLayer(a, never), applyLayer(b, never)]);
  assert.deepEqual([readdirSync(one.root), readdirSync(other.root)], [["a"], ["b"]]);
  assert.notEqual(statSync("/").dev, statSync(one.root).dev);
});
