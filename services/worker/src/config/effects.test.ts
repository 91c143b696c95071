import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { allSettings, type SettingName } from "./settings.ts";

const repository = join(import.meta.dirname, "../../../..");

const startsAndStops = "e2e/worker-starts-and-stops.test.ts";
const listens = "e2e/worker-listens-in-the-network.test.ts";
const takeEffect = "e2e/worker-settings-take-effect.test.ts";

const rootless = "e2e/worker-runs-rootless.test.ts";
const networks = "e2e/worker-gives-steps-networks.test.ts";
const devices = "e2e/worker-gives-steps-devices.test.ts";
const emulators = "e2e/worker-finds-emulators.test.ts";
const tells = "e2e/worker-tells-what-it-does.test.ts";
const remaps = "e2e/worker-remaps-steps.test.ts";
const garbage = "e2e/worker-garbage-collects.test.ts";
const remembers = "e2e/worker-remembers-builds.test.ts";

/** For each setting the test that shows its effect, by file and title: reading a setting is not yet heeding it. */
const effects: Readonly<Record<SettingName, readonly [file: string, title: string]>> = {
  root: [startsAndStops, "says who it is, the same after a restart, and that it is well"],
  stopTimeout: [startsAndStops, "lets builds end when it is asked to end, for as long as it is told to"],
  trace: [takeEffect, "logs as much as it is told to"],
  debug: [takeEffect, "logs as much as it is told to"],
  logLevel: [takeEffect, "logs as much as it is told to"],
  logFormat: [takeEffect, "logs for people if it is told to, its children too"],
  addresses: [takeEffect, "listens on every address that it is given, for the group that it is given"],
  group: [takeEffect, "listens on every address that it is given, for the group that it is given"],
  socketOwner: [listens, "gives its sockets to the user that it is told"],
  tlsCert: [listens, "proves who it is, and speaks with nobody in the clear"],
  tlsKey: [listens, "proves who it is, and speaks with nobody in the clear"],
  tlsCa: [listens, "serves only clients whose certificate one of its authorities has signed"],
  debugAddress: [
    "e2e/worker-answers-operators.test.ts",
    "a worker tells operators how it is, what it has done and what it is at",
  ],
  entitlements: [takeEffect, "grants builds what it is told that it may"],
  enabled: [startsAndStops, "says that there is no runtime"],
  labels: [startsAndStops, "says who it is, the same after a restart, and that it is well"],
  platforms: [takeEffect, "says that it builds for the platforms that it is given"],
  runtimeBinary: [takeEffect, "runs steps with the runtime that it is given"],
  defaultCgroupParent: [takeEffect, "runs steps beneath the cgroup that it is given"],
  stepLogMaxBytes: [tells, "passes on as much of a step's output as it is told to"],
  stepLogMaxBytesPerSecond: [tells, "passes on as much of a step's output as it is told to"],
  echoesSteps: [tells, "logs what steps print if the environment says so"],
  logsDecisions: [tells, "logs what it decides of vertices, and why, if the environment says so"],
  logsDecisionsOf: [tells, "logs what it decides of vertices, and why, if the environment says so"],
  cdiDisabled: [devices, "are none where CDI is disabled"],
  cdiSpecDirs: [
    devices,
    "are those of the directories that the worker is given, the later ones before the others",
  ],
  cdiAutoAllowed: [devices, "are had without asking if the operator or their specification says so"],
  networkMode: [networks, "is what auto means if its file is there, and must work then"],
  rootless: [rootless, "pulls an image, runs a step and gives its result, with nothing but the user's own"],
  workerRootless: [rootless, "is not rootless"],
  noProcessSandbox: [
    rootless,
    "without a sandbox for processes see those of the worker, and leave none behind",
  ],
  proxyNetwork: [
    "e2e/worker-proxies-steps.test.ts",
    "is put before every step if the worker is told so, by flag or by key",
  ],
  cniConfigPath: [networks, "is used by the flag --oci-cni-config-path"],
  cniBinaryDirectory: [networks, "cannot be without its plugin"],
  cniPoolSize: [networks, "are there before a step asks, and gone with the worker"],
  bridgeName: [networks, "is removed with the worker that made it, and stays if it was there before"],
  bridgeSubnet: [networks, "is removed with the worker that made it, and stays if it was there before"],
  bridgeAuto: [networks, "is what auto means if the environment says so"],
  rootlesskitStateDirectory: [networks, "is made in the network that RootlessKit has detached, if it has"],
  cniInitLockPath: [networks, "is tried out by one worker of the host at a time"],
  apparmorProfile: ["services/worker/src/executor/oci-spec.test.ts", "is confined by the AppArmor profile"],
  selinux: [
    "services/worker/src/executor/selinux/labelled-step.test.ts",
    "has a label with categories that no other running step has",
  ],
  remapUser: [remaps, "are others on the host, and root in their own eyes"],
  maxParallelism: [takeEffect, "runs no more steps at a time than it is told to"],
  snapshotter: [takeEffect, "keeps snapshots as it is told to"],
  proxySnapshotterPath: [startsAndStops, "uses a snapshotter that runs already, and leaves it running"],
  savesKeyTexts: [tells, "keeps what cache keys are made of if it is told to, for operators to ask"],
  gc: [garbage, "removes what its rules do not keep, and says which of them and why"],
  reservedSpace: [garbage, "tells clients the rules that its settings come to"],
  maxUsedSpace: [garbage, "tells clients the rules that its settings come to"],
  minFreeSpace: [garbage, "tells clients the rules that its settings come to"],
  gcKeepStorage: [garbage, "tells clients the rules that its settings come to"],
  gcPolicies: [garbage, "removes what its rules do not keep, and says which of them and why"],
  lazySettings: [
    "e2e/worker-uses-snapshotters.test.ts",
    "lets its own one have the settings for lazy layers",
  ],
  historyMaxAge: [remembers, "forgets builds that are both too old and too many, but none that is pinned"],
  historyMaxEntries: [
    remembers,
    "forgets builds that are both too old and too many, but none that is pinned",
  ],
  platformsCacheMaxAge: [emulators, "is looked for no more often than the operator wants"],
  maxRegistryConcurrency: [
    "e2e/worker-shares-registries.test.ts",
    "as many layers come from a registry at a time as the worker is told, and documents meanwhile",
  ],
  traceSocketPath: [
    "e2e/worker-traces-builds.test.ts",
    "shows steps the socket at the path that it is given, which takes their spans",
  ],
  nameservers: [takeEffect, "has steps look up names as it is told to"],
  searchDomains: [takeEffect, "has steps look up names as it is told to"],
  dnsOptions: [takeEffect, "has steps look up names as it is told to"],
  resolverAddress: [
    takeEffect,
    "uses a resolver that runs already, which asks it for credentials where it is told to",
  ],
  sessionSocketPath: [
    takeEffect,
    "uses a resolver that runs already, which asks it for credentials where it is told to",
  ],
  containerdWorker: [takeEffect, "says what of its settings it does not heed, and runs all the same"],
};

test("every setting has a test of its effect", async () => {
  for (const [name] of allSettings) {
    const [file, title] = effects[name];
    const text = await readFile(join(repository, file), "utf8");
    const quoted = title.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
    assert(
      new RegExp(`\\btest\\(\\s*["\`]${quoted}`).test(text),
      `${file}, which shows the effect of ${name}, has no test ${JSON.stringify(title)}`,
    );
  }
});
