import assert from "node:assert/strict";
import { test } from "node:test";
import { isLoopback, upstreamHost } from "./host.ts";

test("Docker Hub is served by another host than its name says", () => {
  assert.deepEqual(upstreamHost("docker.io"), {
    scheme: "https",
    host: "registry-1.docker.io",
    path: "/v2",
    capabilities: ["pull", "resolve", "push"],
  });
});

test("a registry on this machine is spoken to in plain HTTP, any other one in HTTPS", () => {
  assert.equal(upstreamHost("localhost:5000").scheme, "http");
  assert.equal(upstreamHost("registry.example:5000").scheme, "https");
});

test("loopback is what the address says", () => {
  for (const host of ["localhost", "localhost:1", "127.0.0.1", "127.8.9.10:5000", "[::1]", "[::1]:80"]) {
    assert.ok(isLoopback(host), host);
  }
  for (const host of ["127.0.0.1.example", "localhost.example", "128.0.0.1", "[::2]:80", "", "0.0.0.0"]) {
    assert.ok(!isLoopback(host), host);
  }
});
