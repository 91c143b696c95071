import { truth } from "../kinds.ts";
import { setting } from "../setting.ts";

/** What is otherwise where the worker runs as an unprivileged user, root only in a user namespace of their own. */
export const rootlessSettings = {
  rootless: setting(truth, {
    flag: "rootless",
    fallback: undefined,
    unset: "whether in a user namespace",
    help: "run steps as a user namespace allows it",
  }),
  workerRootless: setting(truth, {
    flag: "oci-worker-rootless",
    key: "worker.oci.rootless",
    fallback: undefined,
    unset: "as --rootless",
    help: "the same; only in a user namespace",
  }),
  noProcessSandbox: setting(truth, {
    flag: "oci-worker-no-process-sandbox",
    key: "worker.oci.noProcessSandbox",
    fallback: false,
    help: "let steps see and kill the processes of the worker's user, where a /proc of their own cannot be mounted",
  }),
};
