import { type Kind, WrongValueError } from "../kind.ts";
import { truthOrAuto } from "../kinds.ts";
import { setting } from "../setting.ts";

const falseOrAuto: Kind<boolean | "auto"> = {
  ...truthOrAuto,
  operand: "auto|false",
  fromText: (value) => notTrue(truthOrAuto.fromText(value)),
  fromToml: (value) => notTrue(truthOrAuto.fromToml(value)),
};

function notTrue(enabled: boolean | "auto"): boolean | "auto" {
  if (enabled === true) {
    throw new WrongValueError("it is true, want false or auto: this program is the OCI worker only");
  }
  return enabled;
}

/** What buildkitd has besides, of which it matters only that it is off. */
export const otherWorkerSettings = {
  containerdWorker: setting(falseOrAuto, {
    flag: "containerd-worker",
    key: "worker.containerd.enabled",
    fallback: "auto",
    help: "there is none: auto and false are taken; other settings of it are not looked at",
  }),
};
