import { isKind, isQualifiedName } from "../../cdi/names.ts";
import { wrongValue } from "../kind.ts";
import { directory, listOf, textual, truth } from "../kinds.ts";
import { setting } from "../setting.ts";

const deviceOrKind = textual("DEVICE", (value) => {
  if (!isKind(value) && !isQualifiedName(value)) {
    throw wrongValue(value, "VENDOR/CLASS=NAME, or VENDOR/CLASS for all of a kind");
  }
  return value;
});

/** The devices that steps can be given. */
export const deviceSettings = {
  cdiDisabled: setting(truth, {
    flag: "cdi-disabled",
    key: "cdi.disabled",
    fallback: false,
    help: "give steps no devices",
  }),
  cdiSpecDirs: setting(listOf(directory), {
    flag: "cdi-spec-dir",
    key: "cdi.specDirs",
    fallback: ["/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi"],
    help: "where specifications of devices (CDI) are; the later, the stronger",
  }),
  cdiAutoAllowed: setting(listOf(deviceOrKind), {
    key: "cdi.autoAllowed",
    fallback: [],
    help: "devices, by name or by kind, that builds get without asking their user",
  }),
};
