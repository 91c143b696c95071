import assert from "node:assert/strict";
import { test } from "node:test";
import { format, inspect } from "node:util";
import { pino } from "pino";
import { Secret } from "./secret.ts";

test("a secret is shown by no way of turning it into text", () => {
  const secret = new Secret("c4n4ry");
  const lines: string[] = [];
  pino({ level: "trace" }, { write: (line: string) => lines.push(line) }).info(
    { secret, nested: { list: [secret] }, err: new Error("failed", { cause: secret }) },
    `with ${secret}`,
  );
  const texts = [
    `${secret}`,
    String(secret),
    JSON.stringify({ secret }),
    inspect(secret, { showHidden: true, depth: 9 }),
    format("%s %o %j", secret, secret, secret),
    Object.values(secret).join(),
    ...lines,
  ];
  for (const text of texts) {
    assert.doesNotMatch(text, /c4n4ry/);
  }
  assert.equal(secret.reveal(), "c4n4ry");
});
