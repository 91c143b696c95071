import { loadConfig } from "@oci-worker/daemon/load-config";
import { createLog } from "@oci-worker/daemon/log";
import { runProgram } from "@oci-worker/daemon/run";
import { notifyManager, passedSockets } from "@oci-worker/daemon/service-manager";
import { untilSignal } from "@oci-worker/daemon/until-signal";
import { version } from "@oci-worker/daemon/version";
import { forbidCoreDumps } from "@oci-worker/libc/process";
import { parseConfig } from "./config.ts";
import { defaultDockerConfig, parseFlags, usage } from "./flags.ts";
import { serveResolver } from "./server.ts";

await runProgram("oci-resolver", async () => {
  // Passwords and tokens are in our memory, and in that of the credential helpers that we start.
  forbidCoreDumps();
  const flags = parseFlags(process.argv.slice(2), process.env);
  if (flags.help || flags.version) {
    process.stdout.write(flags.help ? usage : `oci-resolver ${version}\n`);
    return;
  }
  const file = await loadConfig(flags.configFile, flags.configFileNamed);
  const config = parseConfig({ dockerConfig: defaultDockerConfig(process.env), ...file, ...flags.settings });
  const log = createLog("resolver", config.logLevel, config.logFormat);
  const stopped = untilSignal(log);
  const sockets = passedSockets(process.env);

  await using _server = await serveResolver(config, sockets, log);
  const { sessionAddress, dockerConfig, keychains } = config;
  const address = sockets.map(({ boundTo }) => boundTo).join(" ") || config.address;
  log.info({ address, sessionAddress, dockerConfig, keychains }, "serving");
  notifyManager("READY=1", log);

  log.info({ signal: await stopped }, "stopping");
  notifyManager("STOPPING=1", log);
});
