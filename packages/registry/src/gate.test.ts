import assert from "node:assert/strict";
import { test } from "node:test";
import { HostGates } from "./gate.ts";

/** Whether `promise` has settled by the time that everything which is ready has run. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settle = () => {
    settled = true;
  };
  promise.then(settle, settle);
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
  return settled;
}

test("lets in as many blobs as it has places, and a document beside them", async () => {
  const gates = new HostGates(2);
  const first = await gates.enter("blob", undefined);
  await gates.enter("blob", undefined);
  const third = gates.enter("blob", undefined);
  const document = await gates.enter("document", undefined);
  assert.equal(await isSettled(third), false);
  document[Symbol.dispose]();
  assert.equal(await isSettled(third), false);
  first[Symbol.dispose]();
  assert.equal(await isSettled(third), true);
});

test("a place given up twice is one place", async () => {
  const gates = new HostGates(1);
  const first = await gates.enter("blob", undefined);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  await gates.enter("blob", undefined);
  assert.equal(await isSettled(gates.enter("blob", undefined)), false);
});

test("who leaves the queue takes no place", async () => {
  const gates = new HostGates(1);
  const first = await gates.enter("blob", undefined);
  const abort = new AbortController();
  const impatient = gates.enter("blob", abort.signal);
  const patient = gates.enter("blob", undefined);
  abort.abort(new Error("gone"));
  await assert.rejects(impatient, /gone/);
  first[Symbol.dispose]();
  (await patient)[Symbol.dispose]();
  (await gates.enter("blob", undefined))[Symbol.dispose]();
});
