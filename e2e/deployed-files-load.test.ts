import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { loadConfig } from "@oci-worker/daemon/load-config";
import { compilePolicy } from "./peers/apparmor-policy.ts";
import { startContainerd } from "./peers/containerd.ts";
import { startProcess } from "./peers/process.ts";
import { startSnapshotter } from "./peers/snapshotter.ts";

const run = promisify(execFile);
const repository = join(import.meta.dirname, "..");
const deploy = join(repository, "deploy");

/** The socket that the files of deploy/ name. */
const deployedSocket = "/run/oci-worker/snapshotter.sock";

/** A file of deploy/ with the socket that the test serves in place of the host's. */
async function deployed(file: string, socket: string): Promise<string> {
  const text = await readFile(join(deploy, file), "utf8");
  assert(text.includes(`"${deployedSocket}"`), `${file} names the default socket`);
  return text.replaceAll(`"${deployedSocket}"`, JSON.stringify(socket));
}

describe("deploy/", () => {
  test("containerd/config-v2.toml makes our snapshotter one of containerd's", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "deployed-"));
    await using snapshotter = await startSnapshotter("overlayfs");
    const file = join(directory.path, "config.toml");
    await writeFile(file, await deployed("containerd/config-v2.toml", snapshotter.address));
    await using containerd = await startContainerd(undefined, file);
    const plugins = await containerd.ctr("plugins", "list");
    assert.match(plugins, /io\.containerd\.snapshotter\.v1\s+oci-worker\s+\S+\s+ok/);
    await containerd.ctr("snapshots", "--snapshotter", "oci-worker", "prepare", "mine", "");
    await snapshotter.said(/"client":"oci-worker","keys":"containerd","msg":"client owns this root"/);
    await containerd.ctr("snapshots", "--snapshotter", "oci-worker", "rm", "mine");
  });

  test("containerd/config-v3.toml says the same to containerd 2", async () => {
    const [v2, v3] = await Promise.all(
      ["config-v2.toml", "config-v3.toml"].map((file) => loadConfig(join(deploy, "containerd", file), true)),
    );
    const plugin = { type: "snapshot", address: deployedSocket };
    const exports = { root: "/var/lib/oci-worker/snapshotter" };
    assert.equal(JSON.stringify(v2), JSON.stringify({ version: 2, proxy_plugins: { "oci-worker": plugin } }));
    assert.equal(
      JSON.stringify(v3),
      JSON.stringify({ version: 3, proxy_plugins: { "oci-worker": { ...plugin, exports } } }),
    );
  });

  test("buildkit/buildkitd.toml has a worker use the snapshotter that runs", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "deployed-"));
    await using snapshotter = await startSnapshotter("overlayfs");
    const file = join(directory.path, "buildkitd.toml");
    await writeFile(file, await deployed("buildkit/buildkitd.toml", snapshotter.address));
    const socket = `unix://${join(directory.path, "worker.sock")}`;
    await using worker = await startProcess({
      program: join(repository, "services/worker/bin/oci-worker"),
      args: ["--config", file, "--root", join(directory.path, "root"), "--addr", socket],
      ready: /"name":"worker".*"msg":"serving"/,
    });
    assert.deepEqual(
      worker.log.filter((line) => line.includes("is not used by this worker")),
      [],
    );
    await snapshotter.said(/Snapshots\/List".*"client":"overlayfs"/);
    assert(!worker.log.some((line) => line.includes('"name":"snapshotter"')));
  });

  test("advertises rebase nowhere: containerd's unpacker would lose deletions of files", async () => {
    const files = await readdir(deploy, { recursive: true, withFileTypes: true });
    const lines = files.filter(
      (file) => file.isFile() && /\.(toml|json|ya?ml|service|socket)$/.test(file.name),
    );
    assert(lines.length >= 5, `${lines.length} files`);
    for (const { parentPath, name } of lines) {
      assert.doesNotMatch(await readFile(join(parentPath, name), "utf8"), /rebase|capabilities/, name);
    }
  });

  test("apparmor/ has profiles that the parser takes, by the names that operators are told", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "deployed-"));
    const readme = await readFile(join(deploy, "README.md"), "utf8");
    const files = await readdir(join(deploy, "apparmor"));
    assert(files.length > 0);
    for (const name of files) {
      const policy = await compilePolicy(join(deploy, "apparmor", name), join(directory.path, name));
      assert.deepEqual(policy.profiles, [name]);
      assert(policy.binary.includes(name), "it is compiled");
      assert(readme.includes(`apparmor/${name}\``), `README.md names apparmor/${name}`);
    }
    assert(readme.includes("--oci-worker-apparmor-profile oci-worker-step"));
  });

  test("apparmor/oci-worker-step lets steps do as they like with files, but mount nothing and leave the kernel's alone", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "deployed-"));
    const file = join(deploy, "apparmor/oci-worker-step");
    const { deniesMounts, mayFile } = await compilePolicy(file, join(directory.path, "binary"));
    assert(deniesMounts);
    for (const path of [
      "/bin/sh",
      "/etc/passwd",
      "/dev/null",
      "/proc/1/attr/current",
      "/proc/42/task/7/comm",
    ]) {
      assert(mayFile(path, "read") && mayFile(path, "write") && mayFile(path, "execute"), path);
    }
    for (const path of [
      "/proc/meminfo",
      "/proc/sys/kernel/core_pattern",
      "/proc/sys/vm/drop_caches",
      "/proc/irq/1/smp_affinity",
      "/proc/bus/pci/00",
      "/proc/scsi/device_info",
      "/sys/kernel/mm/ksm/run",
      "/sys/fs/cgroup/memory.max",
      "/sys/class/net/eth0/mtu",
    ]) {
      assert(!mayFile(path, "write") && !mayFile(path, "append"), `${path} is not written to`);
    }
    for (const path of ["/proc/meminfo", "/proc/sys/kernel/osrelease", "/sys/fs/cgroup/memory.max"]) {
      assert(mayFile(path, "read"), `${path} is read`);
    }
    for (const path of [
      "/proc/kcore",
      "/proc/sysrq-trigger",
      "/proc/timer_list",
      "/proc/acpi/wakeup",
      "/sys/firmware/efi/efivars",
      "/sys/devices/virtual/powercap/intel-rapl/intel-rapl:0/energy_uj",
    ]) {
      assert(!mayFile(path, "read") && !mayFile(path, "write"), `${path} is not read`);
    }
  });

  test("systemd/ has units that systemd finds nothing wrong with", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "deployed-"));
    const units: string[] = [];
    for (const name of await readdir(join(deploy, "systemd"))) {
      const text = await readFile(join(deploy, "systemd", name), "utf8");
      const path = join(directory.path, name);
      await writeFile(path, text.replaceAll(/\/usr\/local\/bin\/oci-(\w+)/g, programOf));
      units.push(path);
    }
    const { stdout, stderr } = await run("systemd-analyze", ["verify", "--man=no", ...units]);
    assert.equal(stdout + stderr, "");
  });

  for (const [service, sockets] of Object.entries({
    snapshotter: { "oci-snapshotter.socket": deployedSocket },
    resolver: { "oci-resolver.socket": "/run/oci-worker/resolver.sock" },
    worker: {
      "oci-worker.socket": "/run/oci-worker/worker.sock",
      "oci-worker-session.socket": "/run/oci-worker/session.sock",
    },
  })) {
    test(`systemd/oci-${service}.service runs the program with flags that it knows, on sockets where others look`, async () => {
      const unit = await readFile(join(deploy, "systemd", `oci-${service}.service`), "utf8");
      const [, command = ""] = /^ExecStart=((?:.*\\\n)*.*)$/m.exec(unit) ?? [];
      const [program = "", ...flags] = command.split(/[\s\\]+/);
      assert.equal(program, `/usr/local/bin/oci-${service}`);
      const { stdout } = await run(programOf(program, service), [...flags, "--help"]);
      assert.match(stdout, /^Usage: /);
      for (const [name, path] of Object.entries(sockets)) {
        const socket = await readFile(join(deploy, "systemd", name), "utf8");
        assert.equal(/^ListenStream=(.*)$/m.exec(socket)?.[1], path);
        assert.match(unit, new RegExp(`^Requires=.*\\b${name}\\b`, "m"));
      }
    });
  }
});

function programOf(_deployed: string, service: string): string {
  return join(repository, "services", service, "bin", `oci-${service}`);
}
