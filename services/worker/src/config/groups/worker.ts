import { formatPlatform, parsePlatform } from "@oci-worker/oci/platform";
import { WrongValueError } from "../kind.ts";
import { listOf, named, pairs, text, textual, truthOrAuto } from "../kinds.ts";
import { setting } from "../setting.ts";

const platform = textual(
  "PLATFORM",
  (value) => {
    try {
      return parsePlatform(value);
    } catch (cause) {
      throw new WrongValueError(`invalid platforms: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      });
    }
  },
  formatPlatform,
);

/** What the worker is, to clients, and how it runs steps. */
export const workerSettings = {
  enabled: setting(truthOrAuto, {
    flag: "oci-worker",
    key: "worker.oci.enabled",
    fallback: "auto",
    help: "whether there is a worker; auto: if there is a runtime",
  }),
  labels: setting(pairs, {
    flag: "oci-worker-labels",
    key: "worker.oci.labels",
    fallback: {},
    help: "label of the worker, besides its own",
  }),
  platforms: setting(listOf(platform), {
    flag: "oci-worker-platform",
    key: "worker.oci.platforms",
    fallback: [],
    unset: "what runs on this machine",
    help: "platform that the worker builds for",
  }),
  runtimeBinary: setting(named("RUNTIME"), {
    flag: "oci-worker-binary",
    key: "worker.oci.binary",
    fallback: "",
    unset: "the first of buildkit-runc and runc",
    help: "runtime, by name or path",
  }),
  defaultCgroupParent: setting(text, {
    key: "worker.oci.defaultCgroupParent",
    fallback: "",
    unset: "the root",
    help: "cgroup above steps that ask for none",
  }),
};
