import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { mergeScopes, repositoryScope, splitScopes } from "./scopes.ts";

test("pushing wants reading, too", () => {
  assert.equal(repositoryScope("library/app", "pull"), "repository:library/app:pull");
  assert.equal(repositoryScope("library/app", "push"), "repository:library/app:pull,push");
});

test("wishes for one resource become one, and all are in one order", () => {
  const merged = mergeScopes(
    ["repository:b:push", "repository:a:pull"],
    splitScopes("  repository:b:pull,push registry:catalog:*\trepository:a:pull odd"),
  );
  assert.deepEqual(merged, ["odd", "registry:catalog:*", "repository:a:pull", "repository:b:pull,push"]);
});

test("a resource may have a port in its name", () => {
  assert.deepEqual(mergeScopes(["repository:localhost:5000/a:pull"], ["repository:localhost:5000/a:push"]), [
    "repository:localhost:5000/a:pull,push",
  ]);
});

test("nothing is asked for twice, lost or made up, and the order of the wishes does not matter", () => {
  const action = fc.constantFrom("pull", "push", "*");
  const scope = fc
    .tuple(
      fc.constantFrom("repository:a", "repository:b", "registry:x:1"),
      fc.array(action, { minLength: 1 }),
    )
    .map(([resource, actions]) => `${resource}:${actions.join(",")}`);
  fc.assert(
    fc.property(fc.array(scope), (scopes) => {
      const merged = mergeScopes(scopes);
      const pairs = (list: readonly string[]) =>
        new Set(
          list.flatMap((each) => {
            const colon = each.lastIndexOf(":");
            return each
              .slice(colon + 1)
              .split(",")
              .map((name) => `${each.slice(0, colon)} ${name}`);
          }),
        );
      assert.deepEqual(pairs(merged), pairs(scopes));
      assert.deepEqual(mergeScopes(scopes.toReversed()), merged);
      assert.deepEqual(mergeScopes(merged, merged), merged);
    }),
  );
});
