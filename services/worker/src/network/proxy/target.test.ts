import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { targetOf, tunneledTarget } from "./target.ts";

describe("the target of a request to a proxy", () => {
  const cases: [asked: string, url: string, host: string, port: number, path: string, hostHeader: string][] =
    [
      ["http://a.example/x?y=z", "http://a.example/x?y=z", "a.example", 80, "/x?y=z", "a.example"],
      ["HTTP://a.example:80", "http://a.example/", "a.example", 80, "/", "a.example"],
      [
        "http://a.example:8080?q#part",
        "http://a.example:8080/?q",
        "a.example",
        8080,
        "/?q",
        "a.example:8080",
      ],
      [
        "https://a.example:443//b/../c",
        "https://a.example//b/../c",
        "a.example",
        443,
        "//b/../c",
        "a.example",
      ],
      ["http://[::1]:81/", "http://[::1]:81/", "::1", 81, "/", "[::1]:81"],
      ["http://me:p@ss@a.example/", "http://xxxxx:xxxxx@a.example/", "a.example", 80, "/", "a.example"],
      ["http://me@a.example/", "http://xxxxx@a.example/", "a.example", 80, "/", "a.example"],
    ];
  for (const [asked, url, host, port, path, hostHeader] of cases) {
    test(`is taken from ${asked}`, () => {
      const scheme = asked.toLowerCase().startsWith("https") ? "https" : "http";
      assert.deepEqual(targetOf(asked, "other.example"), { scheme, host, port, hostHeader, path, url });
    });
  }

  test("is that of the header Host if it is a path alone", () => {
    assert.equal(targetOf("/x", "a.example:81")?.url, "http://a.example:81/x");
    assert.equal(targetOf("/x", undefined), undefined);
  });

  test("is none where nobody can be asked by HTTP", () => {
    const wrong = [
      "ftp://a/",
      "http://",
      "http:///x",
      "http://a b/",
      "http://a:0/",
      "http://a:65536/",
      "*",
      "a:1",
    ];
    for (const asked of [
      ...wrong,
      "http://a:b:c/",
      "http://[::1/",
      "http://[a]/",
      "http://[fe80::1%eth0]/",
    ]) {
      assert.equal(targetOf(asked, "a.example"), undefined, asked);
    }
  });
});

test("a request inside a tunnel goes where that leads, by whatever name it calls the server", () => {
  assert.deepEqual(tunneledTarget("/x", "b.example", "a.example:8443"), {
    scheme: "https",
    host: "a.example",
    port: 8443,
    hostHeader: "b.example",
    path: "/x",
    url: "https://a.example:8443/x",
  });
  assert.equal(tunneledTarget("http://c.example/y", undefined, "a.example:443")?.url, "https://a.example/y");
});
