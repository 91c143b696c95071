import { truthOrAuto } from "../kinds.ts";
import { setting } from "../setting.ts";

/** What buildkitd has besides, of which it matters only that it is off. */
export const otherWorkerSettings = {
  containerdWorker: setting(truthOrAuto, {
    flag: "containerd-worker",
    key: "worker.containerd.enabled",
    fallback: "auto",
    help: "there is none: auto and false are taken; other settings of it are not looked at",
  }),
};
