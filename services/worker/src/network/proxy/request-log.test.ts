import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestLog, summaryText } from "./request-log.ts";

test("a step that has asked for nothing is told nothing", () => {
  assert.equal(summaryText(new RequestLog().summary()), "");
});

test("requests are told in their order, also one that nobody has waited for", () => {
  const log = new RequestLog();
  const [first, , third] = ["/1", "/2", "/3"].map((path) => log.begin("GET", `http://a.example${path}`));
  assert(first !== undefined && third !== undefined);
  third.status = 404;
  first.status = 200;
  const told = "- GET http://a.example/1 -> 200\n- GET http://a.example/2\n- GET http://a.example/3 -> 404\n";
  assert.equal(summaryText(log.summary()), `proxy network requests:\n${told}`);
});

test("a step that asks without end fills no memory", () => {
  const log = new RequestLog();
  for (let index = 0; index < 1010; index += 1) {
    log.begin("GET", `http://a.example/${"x".repeat(100_000)}`).status = 200;
  }
  const text = summaryText(log.summary());
  assert(text.length < 3_000_000);
  assert(text.endsWith("x... -> 200\n- and 10 more\n"));
});
