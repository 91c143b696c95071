import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { formatReference } from "@oci-worker/oci/reference";
import fc from "fast-check";
import { parseLabels } from "./labels.ts";

const stargz = "containerd.io/snapshot/remote/stargz";
const tocLabel = "containerd.io/snapshot/stargz/toc.digest";
const urlsLabel = "containerd.io/snapshot/remote/urls";
const cri = "containerd.io/snapshot/cri";
const [base, middle, top, toc] = ["base", "middle", "top", "toc"].map((text) => digestOf(text)) as [
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
];

/** A group of labels as BuildKit sets it; without an id as containerd does. */
function group(id: string, changes: Readonly<Record<string, string>> = {}): Record<string, string> {
  const suffix = id === "" ? "" : `.${id}`;
  const labels = { reference: "registry.example/app:1", digest: middle, ...changes };
  return Object.fromEntries(
    Object.entries(labels).map(([name, value]) => [`${stargz}.${name}${suffix}`, value]),
  );
}

function problems(labels: Readonly<Record<string, string>>) {
  return parseLabels(labels).skipped.map(({ id, label, reason }) => [id, label, reason]);
}

describe("parseLabels", () => {
  test("reads one group without an id, as containerd sets it", () => {
    const labels = {
      ...group("", { layers: `${middle},${top},${base}` }),
      [tocLabel]: toc,
      [urlsLabel]: "https://a.example/1,http://b.example/2",
      [`${urlsLabel}.1`]: "https://a.example/top",
      "containerd.io/snapshot.ref": "sha256:chain",
    };
    const { candidates, skipped } = parseLabels(labels);
    assert.deepEqual(skipped, []);
    assert.deepEqual(candidates, [
      {
        id: "",
        label: `${stargz}.reference`,
        reference: { domain: "registry.example", repository: "app", tag: "1" },
        target: { digest: middle, urls: ["https://a.example/1", "http://b.example/2"] },
        layers: [
          { digest: middle, urls: ["https://a.example/1", "http://b.example/2"] },
          { digest: top, urls: ["https://a.example/top"] },
          { digest: base, urls: [] },
        ],
        tocDigest: toc,
        sessionIDs: [],
      },
    ]);
  });

  test("tells groups apart by their ids, in the order of these, and that without one is last", () => {
    const labels = { ...group(""), ...group("zz"), ...group("a.b"), ...group("B") };
    assert.deepEqual(
      parseLabels(labels).candidates.map(({ id }) => id),
      ["B", "a.b", "zz", ""],
    );
  });

  test("numbers sessions up to the first gap", () => {
    const labels = {
      ...group("x"),
      [`${stargz}.session.0.x`]: "first",
      [`${stargz}.session.1.x`]: "second",
      [`${stargz}.session.3.x`]: "beyond",
      [`${stargz}.session.0.y`]: "another's",
    };
    assert.deepEqual(parseLabels(labels).candidates[0]?.sessionIDs, ["first", "second"]);
  });

  test("an absent, empty or bad list of neighbours loses no source", () => {
    for (const layers of [{}, { layers: "" }, { layers: "," }]) {
      const { candidates, skipped } = parseLabels(group("x", layers));
      assert.deepEqual(candidates[0]?.layers, [{ digest: middle, urls: [] }]);
      assert.deepEqual(skipped, []);
    }
    const cut = group("x", { layers: `${top},${base.slice(0, 30)}` });
    assert.deepEqual(
      parseLabels(cut).candidates[0]?.layers.map(({ digest }) => digest),
      [middle, top],
    );
    assert.deepEqual(problems(cut), [["x", `${stargz}.layers.x`, "bad-layers"]]);
  });

  test("an empty digest of the table of contents, as BuildKit sets it, is none", () => {
    const { candidates, skipped } = parseLabels({ ...group("x"), [`${tocLabel}.x`]: "" });
    assert.deepEqual([candidates[0]?.tocDigest, skipped], [undefined, []]);
    assert.deepEqual(problems({ ...group("x"), [`${tocLabel}.x`]: "sha256:x" }), [
      ["x", `${tocLabel}.x`, "bad-toc-digest"],
    ]);
  });

  test("a group that cannot be used is told, and does not drop the others", () => {
    const labels = {
      ...group("good"),
      ...group("bad-reference", { reference: "Registry.example/App" }),
      ...group("bad-digest", { digest: "sha512:x" }),
      ...group("no-digest", { digest: "" }),
      [`${stargz}.digest.no-reference`]: base,
    };
    const { candidates } = parseLabels(labels);
    assert.deepEqual(
      candidates.map(({ id }) => id),
      ["good"],
    );
    assert.deepEqual(problems(labels), [
      ["bad-digest", `${stargz}.digest.bad-digest`, "bad-digest"],
      ["bad-reference", `${stargz}.reference.bad-reference`, "bad-reference"],
      ["no-digest", `${stargz}.digest.no-digest`, "no-digest"],
      ["no-reference", `${stargz}.reference.no-reference`, "no-reference"],
    ]);
  });

  test("says what was read and what is wanted", () => {
    const [skip] = parseLabels(group("x", { digest: "md5:1" })).skipped;
    assert.equal(
      skip?.message,
      `Cannot use label "${stargz}.digest.x": Cannot use "md5:1" as a digest: want "sha256:" and 64 lower-case hex digits`,
    );
  });

  test("labels of ours that name no image lead to nothing, and that is told", () => {
    for (const label of [
      urlsLabel,
      `${stargz}.prefetch`,
      `${stargz}.session.0.x`,
      `${cri}.manifest-digest`,
    ]) {
      assert.deepEqual(
        problems({ [label]: "https://a.example/" }),
        [["", `${stargz}.reference`, "no-reference"]],
        label,
      );
    }
  });

  test("labels that are all about something else are refused", () => {
    for (const labels of [
      {},
      { "containerd.io/snapshot.ref": "x" },
      { "containerd.io/snapshot/remote/stargazer": "x", "containerd.io/snapshot/crisp": "y" },
    ]) {
      assert.throws(
        () => parseLabels(labels),
        (error) => {
          assert.ok(error instanceof InvalidArgumentError);
          assert.match(error.message, /none of the \d labels is about them, want .*stargz\.reference and /);
          return true;
        },
      );
    }
  });

  test("reads the labels of containerd", () => {
    const labels = {
      [`${cri}.image-ref`]: "alpine:3",
      [`${cri}.layer-digest`]: middle,
      [`${cri}.image-layers`]: `${middle},${top}`,
      [`${cri}.manifest-digest`]: base,
      [tocLabel]: toc,
      [`${urlsLabel}.1`]: "https://a.example/top",
    };
    const { candidates, skipped } = parseLabels(labels);
    assert.deepEqual(skipped, []);
    assert.deepEqual(
      candidates.map((each) => [each.id, each.label, formatReference(each.reference), each.tocDigest]),
      [["", `${cri}.image-ref`, "docker.io/library/alpine:3", toc]],
    );
    assert.deepEqual(candidates[0]?.layers, [
      { digest: middle, urls: [] },
      { digest: top, urls: ["https://a.example/top"] },
    ]);
    assert.deepEqual(problems({ ...labels, [`${cri}.image-ref`]: "Alpine", [`${cri}.layer-digest`]: "" }), [
      ["", `${cri}.image-ref`, "bad-reference"],
      ["", `${cri}.layer-digest`, "no-digest"],
    ]);
  });

  test("the labels of containerd come last, and not if they repeat others", () => {
    const labels = { [`${cri}.image-ref`]: "registry.example/app:1", [`${cri}.layer-digest`]: middle };
    const ids = (others: object) =>
      parseLabels({ ...labels, ...others }).candidates.map(({ id, label }) => [id, label]);
    assert.deepEqual(ids(group("")), [["", `${stargz}.reference`]]);
    assert.deepEqual(ids({ ...group("", { digest: top }), ...group("x") }), [
      ["x", `${stargz}.reference.x`],
      ["", `${stargz}.reference`],
      ["", `${cri}.image-ref`],
    ]);
    assert.deepEqual(ids(group("", { reference: "Bad" })), [["", `${cri}.image-ref`]]);
    assert.deepEqual(problems({ ...labels, ...group("", { digest: top }), [tocLabel]: "x" }), [
      ["", tocLabel, "bad-toc-digest"],
    ]);
  });

  test("what is said of a layer without an id counts for each group that has the layer", () => {
    const labels = {
      ...group("", { layers: `${middle},${top}` }),
      ...group("same", { layers: `${middle},${top}` }),
      ...group("other", { digest: base, layers: `${base},${top}` }),
      [tocLabel]: toc,
      [`${tocLabel}.same`]: "",
      [urlsLabel]: "https://a.example/middle",
      [`${urlsLabel}.1`]: "https://a.example/top",
    };
    const [other, same] = parseLabels(labels).candidates;
    assert.deepEqual([other?.id, other?.tocDigest], ["other", undefined]);
    assert.deepEqual(
      other?.layers.map(({ urls }) => urls),
      [[], ["https://a.example/top"]],
    );
    assert.deepEqual([same?.id, same?.tocDigest], ["same", toc]);
    assert.deepEqual(
      same?.layers.map(({ urls }) => urls),
      [["https://a.example/middle"], ["https://a.example/top"]],
    );
  });

  test("leaves out places that are no web addresses, and does not show them", () => {
    const urls = "file:///etc/passwd,https://a.example/?sig=c4n4ry,https://u:c4n4ry@b.example/,c4n4ry";
    const { candidates, skipped } = parseLabels({ ...group(""), [urlsLabel]: urls });
    assert.deepEqual(candidates[0]?.target.urls, ["https://a.example/?sig=c4n4ry"]);
    assert.equal(skipped.length, 1);
    assert.ok(skipped.every(({ reason, message }) => reason === "bad-url" && !message.includes("c4n4ry")));
  });

  test("stands long values and many groups, up to a limit", () => {
    const long = "x".repeat(64 * 1024);
    const { candidates, skipped } = parseLabels({
      ...group("a", { reference: long, digest: long, layers: long }),
      ...group("b", { layers: Array.from({ length: 800 }, () => top).join() }),
    });
    assert.deepEqual(candidates[0]?.layers.length, 2);
    assert.ok(skipped.every(({ message }) => message.length < 2000));
    const many = (count: number) =>
      Object.assign({}, ...Array.from({ length: count }, (_, index) => group(`id${index}`)));
    assert.equal(parseLabels(many(1000)).candidates.length, 1000);
    assert.throws(() => parseLabels(many(1025)), InvalidArgumentError);
  });

  test("gives checked candidates or reasons, whatever the labels", () => {
    const id = fc.constantFrom("", ".a", ".b", ".0", ".a.b", "..");
    const name = fc.constantFrom(
      `${stargz}.reference`,
      `${stargz}.digest`,
      `${stargz}.layers`,
      `${stargz}.session.0`,
      `${stargz}.session.1`,
      urlsLabel,
      tocLabel,
      `${cri}.image-ref`,
      `${cri}.layer-digest`,
      `${cri}.image-layers`,
      stargz,
      "other",
    );
    const value = fc.oneof(
      fc.constantFrom("", "alpine", "registry.example/app@sha256:1", base, `${top},${base},,x`, "https://x/"),
      fc.string({ unit: "binary" }),
    );
    const key = fc.tuple(name, id).map((parts) => parts.join(""));
    fc.assert(
      fc.property(fc.dictionary(key, value, { maxKeys: 30 }), (labels) => {
        const ours = Object.keys(labels).filter((label) => label.startsWith("containerd.io/snapshot/"));
        if (ours.every((label) => label.startsWith(stargz) && !label.startsWith(`${stargz}.`))) {
          assert.throws(() => parseLabels(labels), InvalidArgumentError);
          return;
        }
        const { candidates, skipped } = parseLabels(labels);
        for (const { label, message } of skipped) {
          assert.ok(message.startsWith(`Cannot use label ${JSON.stringify(label)}: `));
        }
        for (const { reference, layers, target } of candidates) {
          assert.ok(formatReference(reference).length > 0);
          assert.equal(layers[0], target);
          assert.equal(new Set(layers.map(({ digest }) => digest)).size, layers.length);
        }
        assert.ok(candidates.length + skipped.length > 0);
      }),
      { numRuns: 1000 },
    );
  });
});
