import assert from "node:assert/strict";
import { test } from "node:test";
import { readTracing } from "./tracing.ts";

test("the worker is called as the environment says, its service by the variable that is for that alone", async () => {
  const { collector, resourceAttributes } = await readTracing({
    OTEL_RESOURCE_ATTRIBUTES: "service.name=x,site=a%20b",
    OTEL_SERVICE_NAME: "builder",
  });
  assert.equal(collector, undefined);
  assert.deepEqual(Object.fromEntries(resourceAttributes), { "service.name": "builder", site: "a b" });
});

test("what is wrong with the environment is passed over if that is wanted, and warned of", async () => {
  const environment = { OTEL_TRACES_EXPORTER: "zipkin" };
  await assert.rejects(readTracing({ ...environment, OTEL_IGNORE_ERROR: "0" }), /OTEL_TRACES_EXPORTER/);
  const { collector, warnings } = await readTracing({ ...environment, OTEL_IGNORE_ERROR: "true" });
  assert.equal(collector, undefined);
  assert.match(warnings.join("\n"), /^Cannot read \$OTEL_TRACES_EXPORTER: .*spans go to no collector/);
});
