import assert from "node:assert/strict";
import { test } from "node:test";
import { chainIDs, extendChain } from "./chain-id.ts";
import { digestOf } from "./digest.ts";

const [base, middle, top] = [digestOf("base"), digestOf("middle"), digestOf("top")] as const;

test("the ChainID of the base is its DiffID", () => {
  assert.deepEqual(chainIDs([base]), [base]);
});

test("each further ChainID is the digest of the one beneath, a space and the DiffID", () => {
  const second = digestOf(`${base} ${middle}`);
  assert.deepEqual(chainIDs([base, middle, top]), [base, second, digestOf(`${second} ${top}`)]);
});

test("extending a chain gives what computing the whole of it gives", () => {
  const [first, second] = chainIDs([base, middle]);
  assert.equal(extendChain(first, middle), second);
  assert.equal(extendChain(undefined, base), first);
});

test("no layers have no ChainID", () => {
  assert.deepEqual(chainIDs([]), []);
});
