import { runProgram } from "@oci-worker/daemon/run";
import { readConfig } from "./config/read-config.ts";

await runProgram("oci-worker", async () => {
  const settings = await readConfig(process.argv.slice(2), process.env);
  if (settings !== undefined) {
    // Loaded no sooner: --help and a wrong setting are told at once.
    const { runWorker } = await import("./run-worker.ts");
    await runWorker(settings);
  }
});
