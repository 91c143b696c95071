import { loadConfig } from "@oci-worker/daemon/load-config";
import { lockRoot } from "@oci-worker/daemon/lock-root";
import { createLog } from "@oci-worker/daemon/log";
import { runProgram } from "@oci-worker/daemon/run";
import { notifyManager, passedSockets } from "@oci-worker/daemon/service-manager";
import { untilSignal } from "@oci-worker/daemon/until-signal";
import { version } from "@oci-worker/daemon/version";
import { openPeers, requireNamedSnapshotter } from "./children/children.ts";
import { resolveConfig } from "./config/config.ts";
import { readEnvironment } from "./config/environment.ts";
import { readConfigFile } from "./config/file.ts";
import { parseCommandLine } from "./config/flags.ts";
import { usage } from "./config/help.ts";
import { defaultConfigFile } from "./config/paths.ts";
import { printConfig } from "./config/print-config.ts";
import { requireHostSecurity } from "./executor/host-security.ts";
import { requireRuntime } from "./executor/runc.ts";
import { listenAddresses } from "./listen-addresses.ts";
import { planNetworks } from "./network/plan.ts";
import { serveSessions, serveWorker } from "./server.ts";
import { SessionManager } from "./session/session-manager.ts";
import { openWorker } from "./worker.ts";

await runProgram("oci-worker", async () => {
  const commandLine = parseCommandLine(process.argv.slice(2));
  if (commandLine.help || commandLine.version) {
    process.stdout.write(commandLine.help ? usage(process.stdout.columns) : `oci-worker ${version}\n`);
    return;
  }
  const { configFile = defaultConfigFile } = commandLine;
  const table = await loadConfig(configFile, commandLine.configFile !== undefined);
  const file = readConfigFile(table, configFile);
  const resolved = resolveConfig(file.layer, readEnvironment(process.env), commandLine.layer);
  if (commandLine.printConfig) {
    process.stdout.write(printConfig(resolved, file.registry, configFile));
    return;
  }
  const { config } = resolved;
  const log = createLog("worker", config.logLevel);
  for (const { key, meant } of file.unused) {
    log.warn({ file: configFile, key, meant }, "config key is not used by this worker");
  }
  for (const what of [...file.warnings, ...commandLine.warnings]) {
    log.warn({ what }, "setting has another name now");
  }
  const runtime = await requireRuntime(config.enabled, config.runtimeBinary);
  await requireHostSecurity(config);
  await requireNamedSnapshotter(config);
  const networkPlan = await planNetworks(config, process.env);
  const stopped = untilSignal(log);
  const addresses = await listenAddresses(config, passedSockets(process.env));

  await using _lock = await lockRoot(config.root, "buildkitd.lock");
  const sessions = new SessionManager(log);
  await using _sessionServer = await serveSessions(addresses.sessions, sessions, log);
  await using peers = await openPeers(config, file.registry, log);
  await using worker = await openWorker(config, runtime, networkPlan, { ...peers, sessions }, log);
  await using _server = await serveWorker(addresses.control, worker, sessions, log);
  const { id, labels } = worker.identity;
  log.info({ addresses: config.addresses, root: config.root, workerID: id, labels }, "serving");
  notifyManager("READY=1", log);

  log.info({ signal: await stopped }, "stopping");
  notifyManager("STOPPING=1", log);
});
