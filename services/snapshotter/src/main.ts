import { loadConfig } from "@oci-worker/daemon/load-config";
import { lockRoot } from "@oci-worker/daemon/lock-root";
import { createLog } from "@oci-worker/daemon/log";
import { runProgram } from "@oci-worker/daemon/run";
import { notifyManager, passedSockets } from "@oci-worker/daemon/service-manager";
import { untilSignal } from "@oci-worker/daemon/until-signal";
import { version } from "@oci-worker/daemon/version";
import { openSnapshotter } from "./backends/open.ts";
import { parseConfig } from "./config.ts";
import { parseFlags, usage } from "./flags.ts";
import { answerFsck } from "./fsck/answer.ts";
import { Ownership } from "./ownership/ownership.ts";
import { serveSnapshotter } from "./server.ts";

await runProgram("oci-snapshotter", async () => {
  const flags = parseFlags(process.argv.slice(2), process.env);
  if (flags.help || flags.version) {
    process.stdout.write(flags.help ? usage : `oci-snapshotter ${version}\n`);
    return;
  }
  const file = await loadConfig(flags.configFile, flags.configFileNamed);
  const config = parseConfig({ ...file, ...flags.settings });
  if (flags.questions.size > 0) {
    await answerFsck(config.root, flags.questions);
    return;
  }
  const log = createLog("snapshotter", config.logLevel, config.logFormat);
  const stopped = untilSignal(log);
  const sockets = passedSockets(process.env);

  await using _lock = await lockRoot(config.root, "lock");
  await using snapshotter = await openSnapshotter(config, log);
  const ownership = new Ownership({ ...config, record: snapshotter.ownerRecord, log });
  await using _server = await serveSnapshotter(
    { ...config, sockets, ownership, inspector: snapshotter.inspector },
    snapshotter,
    log,
  );
  const address = sockets.map(({ boundTo }) => boundTo).join(" ") || config.address;
  log.info({ address, root: config.root, backend: snapshotter.backend }, "serving");
  notifyManager("READY=1", log);

  log.info({ signal: await stopped }, "stopping");
  notifyManager("STOPPING=1", log);
});
