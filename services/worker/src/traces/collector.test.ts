import assert from "node:assert/strict";
import { test } from "node:test";
import { namesCollector } from "./collector.ts";

test("an environment that names a collector is told from one that does not", () => {
  for (const environment of [
    { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:4318" },
    { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://127.0.0.1:4318/v1/traces" },
    { OTEL_TRACES_EXPORTER: "otlp" },
  ]) {
    assert.equal(namesCollector(environment), true, JSON.stringify(environment));
  }
  for (const environment of [{}, { OTEL_TRACES_EXPORTER: "none", OTEL_EXPORTER_OTLP_ENDPOINT: "" }]) {
    assert.equal(namesCollector(environment), false, JSON.stringify(environment));
  }
});
