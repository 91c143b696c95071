import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { parsePlatform } from "@oci-worker/oci/platform";
import { parseReference } from "@oci-worker/oci/reference";
import { definitionOf, image, run, scratch } from "./build.ts";
import { loadDefinition, parseDefinition } from "./definition.ts";
import { printGraph } from "./print.ts";

test("a dump shows every operation in a line, its inputs by number", () => {
  const base = image(parseReference("busybox"), {
    platform: parsePlatform("linux/amd64"),
    resolveMode: "pull",
  });
  const step = run({
    root: base,
    args: ["sh", "-c", "true"],
    user: "1000",
    network: "none",
    ignoreCache: true,
    mounts: [
      { type: "cache", dest: "/cache", id: "c" },
      { type: "bind", dest: "/in", from: base, selector: "bin", readonly: true },
      { type: "bind", dest: "/out", from: scratch },
    ],
  });
  const graph = loadDefinition(definitionOf(step.root));
  const [first, second] = graph.vertices;
  assert.equal(
    printGraph(graph),
    `${[
      `1 ${first?.digest} source docker-image://docker.io/library/busybox:latest image.resolvemode="pull" linux/amd64 caps=source.image,source.image.resolvemode`,
      `2 ${second?.digest} exec ["sh","-c","true"] cwd=/ user=1000 network=none mounts=[/ rw from 1.0 to 0, /cache rw cache c, /in ro from 1.0:bin, /out rw from scratch to 1] linux/amd64 ignore-cache caps=exec.meta.base,exec.meta.network,exec.meta.setsdefaultpath,exec.mount.bind,exec.mount.cache,exec.mount.cache.sharing,exec.mount.selector`,
      "result 2.0",
    ].join("\n")}\n`,
  );
});

test("a dump of what BuildKit made of a Dockerfile has a line for each operation", async () => {
  const bytes = await readFile(new URL("testdata/copyforms.pb", import.meta.url));
  const graph = loadDefinition(parseDefinition(bytes));
  const lines = printGraph(graph).trim().split("\n");
  assert.equal(lines.length, graph.vertices.length + 1);
  assert.match(lines.join("\n"), /^\d+ sha256:[0-9a-f]{64} file \[copy .*\/with space/m);
  assert.match(lines.join("\n"), /^\d+ sha256:[0-9a-f]{64} merge /m);
});
