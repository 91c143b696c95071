import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { allSettings, type SettingName, settings } from "./settings.ts";

const program = join(import.meta.dirname, "../../bin/oci-worker");

/** Values that a setting refuses: of its flag and its variable as they are said, of its key as TOML. */
interface Wrong {
  readonly flag: readonly string[];
  readonly key: readonly string[];
}

/** For a flag that takes whatever text it is given. */
const anyText: readonly string[] = [];

const wrongValues: Readonly<Record<SettingName, Wrong>> = {
  root: { flag: ["x", "./x\n/y"], key: ["5", '"x"', "[]"] },
  stopTimeout: { flag: ["soon", "-1"], key: ['"soon"', "-1", "true"] },
  trace: { flag: ["maybe"], key: ['"true"', "1"] },
  debug: { flag: ["maybe", ""], key: ['"true"', "1"] },
  logLevel: { flag: ["loud", "3"], key: ['"loud"', "4", "true"] },
  logFormat: { flag: ["xml", ""], key: ['"xml"', "1"] },
  debugAddress: { flag: ["6060", "127.0.0.1:0", "unix:///d.sock"], key: ["6060", '"here"'] },
  addresses: {
    flag: [
      "x.sock",
      "tcpp://127.0.0.1:1",
      "tcp://127.0.0.1",
      "tcp://:0",
      "tcp://h:65536",
      "tcp://a/b:1",
      "a\nb",
      "unix://x.sock",
      `/${"x".repeat(120)}`,
      "",
    ],
    key: ["[]", '"unix:///x"', "[5]", '["x.sock"]'],
  },
  group: { flag: ["no-such-group-here"], key: ["-1", "4294967295", "true"] },
  socketOwner: { flag: anyText, key: ['"root"', "-1", "1.5"] },
  tlsCert: { flag: ["cert.pem", "/no/such/cert.pem"], key: ["5", '"/no/such/cert.pem"'] },
  tlsKey: { flag: ["key.pem", "/no/such/key.pem"], key: ["5", '"/no/such/key.pem"'] },
  tlsCa: { flag: ["ca.pem", "/no/such/ca.pem"], key: ["5", '"/no/such/ca.pem"'] },
  entitlements: { flag: ["x", "network.none"], key: ['"network.host"', '["x"]', "[1]"] },
  enabled: { flag: ["yes", "enabled"], key: ['"yes"', "1"] },
  labels: { flag: ["x", "=x"], key: ['"a=b"', "{ a = 1 }", "[]"] },
  platforms: { flag: ["a/b/c/d", "toaster", "linux/"], key: ['["toaster"]', '"linux/amd64"', "[1]"] },
  runtimeBinary: {
    flag: ["no-such-runtime-here", "/no/such/runtime", "/etc"],
    key: ["5", '"no-such-runtime-here"'],
  },
  defaultCgroupParent: { flag: anyText, key: ["5", "[]"] },
  apparmorProfile: { flag: ["no-such-profile"], key: ['"no-such-profile"', "5"] },
  remapUser: {
    flag: [],
    key: ["5", '"a:b:c"', '":root"', '"root:"', '"-h"', '"no-such-user-here"', '"root:no-such-group-here"'],
  },
  selinux: { flag: ["maybe", "true"], key: ['"true"', "true"] },
  maxParallelism: { flag: ["-1", "x", "1.5"], key: ["-1", '"1"', "1.5"] },
  stepLogMaxBytes: { flag: ["-2", "2MB", "1.5"], key: [] },
  stepLogMaxBytesPerSecond: { flag: ["-2", "fast"], key: [] },
  echoesSteps: { flag: ["yes", "2"], key: [] },
  logsDecisions: { flag: ["yes", "all"], key: [] },
  logsDecisionsOf: { flag: anyText, key: [] },
  cdiDisabled: { flag: ["maybe"], key: ['"true"', "1"] },
  cdiSpecDirs: { flag: ["cdi", ""], key: ['"/etc/cdi"', '["cdi"]', "[5]"] },
  cdiAutoAllowed: {
    flag: [],
    key: ['"vendor.com/gpu"', '["gpu"]', '["vendor.com/gpu=*"]', '["vendor.com/gpu="]', "[5]"],
  },
  networkMode: { flag: ["x", "bride"], key: ['"x"', "5"] },
  rootless: { flag: ["maybe"], key: [] },
  workerRootless: { flag: ["maybe"], key: ['"true"', "1"] },
  noProcessSandbox: { flag: ["maybe"], key: ['"true"', "1", "true"] },
  proxyNetwork: { flag: ["maybe"], key: ['"yes"', "1"] },
  cniConfigPath: { flag: ["cni.json"], key: ["5", '"cni.json"'] },
  cniBinaryDirectory: { flag: ["bin"], key: ["5", '"bin"'] },
  cniPoolSize: { flag: ["-1", "many", ""], key: ["-1", "1.5", '"many"'] },
  bridgeName: { flag: [], key: ["5", '""', '"a/b"', '".."', '"longer-than-a-name-may-be"'] },
  bridgeSubnet: { flag: [], key: ["5", '""', '"10.10.0.0"', '"10.10.0.0/31"', '"10.10/16"', '"fd00::/127"'] },
  bridgeAuto: { flag: ["perhaps"], key: [] },
  rootlesskitStateDirectory: { flag: ["state"], key: [] },
  cniInitLockPath: { flag: ["lock"], key: [] },
  snapshotter: { flag: ["x", "overlay"], key: ['"x"', "5"] },
  proxySnapshotterPath: {
    flag: ["unix:///s", "s.sock", "/no/such.sock", "/etc/passwd"],
    key: ['"s.sock"', '"/no/such.sock"', "5"],
  },
  savesKeyTexts: { flag: ["maybe"], key: [] },
  gc: { flag: ["maybe"], key: ['"true"', "1"] },
  reservedSpace: { flag: [], key: ['"lots"', '"101%"', "-1", "true"] },
  maxUsedSpace: { flag: [], key: ['"x"', "[]"] },
  minFreeSpace: { flag: [], key: ['"10 %%"', "1.5"] },
  gcKeepStorage: { flag: ["x", "1,x", "1,2,x", "1,2,3,4", "-5"], key: ['"x"', "-1", "[]"] },
  gcPolicies: {
    flag: [],
    key: ["5", "[5]", '[{ keepDuration = "x" }]', '[{ keepBytes = "x" }]', "[{ filters = 5 }]"],
  },
  lazySettings: {
    flag: anyText,
    key: ['"x"', "{ noprefetch = 1 }", "{ blob = { fetching_timeout_sec = 0 } }", "{ lazyMode = [] }"],
  },
  historyMaxAge: { flag: [], key: ['"x"', "-1", "[]"] },
  historyMaxEntries: { flag: [], key: ['"x"', "-1", "1.5"] },
  platformsCacheMaxAge: { flag: [], key: ['"soon"', '"-soon"', "true", "[]"] },
  maxRegistryConcurrency: { flag: [], key: ["0", "-1", '"4"', "1.5"] },
  traceSocketPath: {
    flag: ["otel.sock", "tcp://127.0.0.1:4317", `/${"x".repeat(120)}`],
    key: ["5", '"x"'],
  },
  nameservers: { flag: anyText, key: ['"1.1.1.1"', "[1]"] },
  searchDomains: { flag: anyText, key: ['"a"', "[1]"] },
  dnsOptions: { flag: anyText, key: ['"a"', "[1]"] },
  resolverAddress: { flag: ["x", "tcp://x"], key: [] },
  sessionSocketPath: { flag: ["x", `/${"x".repeat(120)}`], key: [] },
  containerdWorker: { flag: ["true", "yes"], key: ["true", '"yes"'] },
};

/** Words of a command line, and of a file, that are wrong by themselves. */
const wrongArguments: readonly { readonly args: readonly string[]; readonly named: string }[] = [
  { args: ["--oci-worker-snapshoter=x"], named: "--oci-worker-snapshoter: there is none of that name" },
  { args: ["--cdi-disabled", "--allow-insecure-entitlement=device"], named: "CDI is disabled" },
  { args: ["--root"], named: "--root: it has no value" },
  { args: ["start"], named: '"start"' },
  { args: ["--"], named: '"--"' },
  { args: ["--config=/no/such/file.toml"], named: "/no/such/file.toml: there is no such file" },
  { args: ["--tlscert=/no/such/cert.pem", "--tlskey=/no/such/key.pem"], named: "'/no/such/cert.pem'" },
  { args: ["--tlscert=/etc/passwd", "--tlskey=/etc/passwd"], named: "no PEM in /etc/passwd" },
];
const wrongFiles: readonly string[] = [
  "root = ",
  "[worker.oci\n",
  "registry = 5",
  '[registry]\n"r" = 5',
  "worker = 5",
  "[worker]\noci = 5",
  "grpc = []",
  'frontend."dockerfile.v0".enabled = "yes"',
  'frontend."gateway.v0".enabled = 1',
  'frontend."gateway.v0".allowedRepositories = "r.example/frontend"',
  "provenanceEnvDir = 5",
  "cache.gha = 5",
  "grpc.securityDescriptor = true",
];

/** What the environment can say wrong of a collector of traces, of which collector.test.ts has more. No message tells a secret. */
const wrongEnvironments: readonly { readonly environment: NodeJS.ProcessEnv; readonly named: string }[] = [
  {
    environment: { OTEL_TRACES_EXPORTER: "zipkin" },
    named: '$OTEL_TRACES_EXPORTER: it is "zipkin", want otlp',
  },
  { environment: { OTEL_EXPORTER_OTLP_ENDPOINT: "ftp://secret@h" }, named: "$OTEL_EXPORTER_OTLP_ENDPOINT" },
  {
    environment: { OTEL_TRACES_EXPORTER: "otlp", OTEL_EXPORTER_OTLP_HEADERS: "a=b,secret" },
    named: "$OTEL_EXPORTER_OTLP_HEADERS: entry 2",
  },
  { environment: { OTEL_RESOURCE_ATTRIBUTES: "secret" }, named: "$OTEL_RESOURCE_ATTRIBUTES: entry 1" },
];

const runningTimeoutMs = 60_000;

/** Runs the program in a directory that is empty but for its config file, and checks how it refuses to start. */
async function refusal(
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
  toml = "",
): Promise<string> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "refusal-"));
  const file = join(directory.path, "test.toml");
  await writeFile(file, toml);
  const own = ["--root", "root", "--addr", "addr"].map((word) =>
    word.startsWith("--") ? word : join(directory.path, word),
  );
  const asked = ["root", "addr"].some((flag) => args.some((arg) => arg.startsWith(`--${flag}`))) ? [] : own;
  const inFile = /^(root|grpc\.address) =/.test(toml) ? [] : asked;
  const running = promisify(execFile)(program, ["--config", file, ...inFile, ...args], {
    cwd: directory.path,
    // One that starts is a failure here, and would run on.
    timeout: runningTimeoutMs,
    env: { ...process.env, ...environment },
  });
  const error = await running.then(
    () => assert.fail("it has started and ended well"),
    (thrown: { readonly code: number; readonly stderr: string }) => thrown,
  );
  assert.equal(error.code, 1, error.stderr);
  assert.match(error.stderr, /^oci-worker: [^\n]+\n$/, "one line says what is wrong");
  assert.deepEqual(await readdir(directory.path), ["test.toml"], "nothing is made");
  return error.stderr;
}

describe("the program starts nothing for", { concurrency: 2 }, () => {
  for (const [name, { flag, key, variable }] of allSettings) {
    const wrong = wrongValues[name];
    for (const value of flag === undefined ? [] : wrong.flag) {
      test(`--${flag}=${JSON.stringify(value.slice(0, 40))}`, async () => {
        const message = await refusal([`--${flag}=${value}`]);
        assert.match(message, /want|you meant|Do not include|cannot be/);
        assert(
          value === "" || message.includes(JSON.stringify(value).slice(1, -1)),
          `${message} names ${value}`,
        );
      });
    }
    for (const value of key === undefined ? [] : wrong.key) {
      test(`${key} = ${value}`, async () => {
        const message = await refusal([], {}, `${key} = ${value}\n`);
        assert.match(message, /want|you meant|Do not include|cannot be/);
      });
    }
    // Empty counts as not set.
    for (const value of variable === undefined ? [] : wrong.flag.filter(Boolean)) {
      test(`$${variable}=${value}`, async () => {
        const message = await refusal([], { [variable ?? ""]: value });
        assert(message.includes(`Cannot use ${variable}: `) && message.includes(`${value}"`), message);
        assert.match(message, /, want /);
      });
    }
  }

  for (const { args, named } of wrongArguments) {
    test(`the command line ${args.join(" ")}`, async () => {
      const message = await refusal(args);
      assert(message.includes(named), message);
    });
  }

  for (const { environment, named } of wrongEnvironments) {
    test(`an environment that says ${JSON.stringify(environment)}`, async () => {
      const message = await refusal([], environment);
      assert(message.includes(named), message);
      assert.match(message, /want/);
      assert.doesNotMatch(message, /secret/);
    });
  }

  for (const toml of wrongFiles) {
    test(`a file that says ${JSON.stringify(toml)}`, async () => {
      assert.match(await refusal([], {}, toml), /test\.toml/);
    });
  }
});

test("every setting has a wrong value here, unless it takes any text", () => {
  for (const [name, { flag, key, variable, kind }] of allSettings) {
    const wrong = wrongValues[name];
    assert(key === undefined || wrong.key.length > 0, `${name} has no wrong value of its key`);
    const takesAny = [settings.defaultCgroupParent, settings.logsDecisionsOf].some(
      (each) => each.kind === kind,
    );
    assert(flag === undefined || takesAny || wrong.flag.length > 0, `${name} has no wrong value of its flag`);
    assert(
      variable === undefined || takesAny || wrong.flag.length > 0,
      `${name} has no wrong value of its variable`,
    );
  }
});
