import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type DnsSettings, hostResolvConf, stepResolvConf } from "./network-files.ts";

const unset: DnsSettings = { nameservers: [], searchDomains: [], options: [] };
const own = { path: "/net" };

describe("the name servers of a step", () => {
  const cases: readonly {
    readonly name: string;
    readonly host: string;
    readonly dns?: Partial<DnsSettings>;
    readonly network?: Parameters<typeof stepResolvConf>[2];
    readonly want: readonly string[];
  }[] = [
    {
      name: "are the host's, without its comments, and the last of its other lines",
      host: "# generated\nsearch first.example\n  nameserver 10.0.0.1 \n;nameserver 10.0.0.2\nnameserver fd00::1\ndomain a.example\noptions ndots:1\nsearch b.example c.example\noptions ndots:2 rotate\n",
      want: [
        "search b.example c.example",
        "nameserver 10.0.0.1",
        "nameserver fd00::1",
        "options ndots:2 rotate",
      ],
    },
    {
      name: "are not those that a network of its own cannot reach",
      host: "nameserver 127.0.0.1\nnameserver 10.0.0.1\nnameserver 127.0.0.53\nnameserver ::1\n",
      want: ["nameserver 10.0.0.1"],
    },
    {
      name: "are all of the host's on its network",
      host: "nameserver 127.0.0.1\nnameserver ::1\n",
      network: "host",
      want: ["nameserver 127.0.0.1", "nameserver ::1"],
    },
    {
      name: "are public ones where none is left",
      host: "nameserver 127.0.0.1\nsearch a.example\n",
      want: [
        "search a.example",
        ...["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"].map(
          (server) => `nameserver ${server}`,
        ),
      ],
    },
    {
      name: "are the operator's, also on loopback, beside what he leaves to the host",
      host: "nameserver 10.0.0.1\nsearch a.example\noptions ndots:2\n",
      dns: { nameservers: ["127.0.0.9"] },
      want: ["search a.example", "nameserver 127.0.0.9", "options ndots:2"],
    },
    {
      name: "are the host's where the operator has other wishes only",
      host: "nameserver 10.0.0.1\nsearch a.example\noptions ndots:2\n",
      dns: { searchDomains: ["x.example", "y.example"], options: ["edns0", "timeout:1"] },
      want: ["search x.example y.example", "nameserver 10.0.0.1", "options edns0 timeout:1"],
    },
  ];
  for (const { name, host, dns, network = own, want } of cases) {
    test(name, () => {
      assert.equal(stepResolvConf(host, { ...unset, ...dns }, network), [...want, ""].join("\n"));
    });
  }
});

test("the name servers of a host are those behind the stub of systemd-resolved", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "resolv-"));
  const [path, resolved] = [join(directory.path, "resolv.conf"), join(directory.path, "resolved.conf")];
  const stub = "nameserver 127.0.0.53\noptions edns0\n";
  assert.equal(await hostResolvConf(path, resolved), "", "it has no file");
  await writeFile(path, stub);
  assert.equal(await hostResolvConf(path, resolved), stub, "there is none behind it");
  await writeFile(resolved, "nameserver 10.0.0.1\n");
  assert.equal(await hostResolvConf(path, resolved), "nameserver 10.0.0.1\n");
  for (const text of [`${stub}nameserver 10.0.0.2\n`, "nameserver 127.0.0.1\n"]) {
    await writeFile(path, text);
    assert.equal(await hostResolvConf(path, resolved), text);
  }
});
