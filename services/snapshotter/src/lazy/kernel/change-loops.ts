// A program of its own: has loop devices that show one file show another. Its arguments are the paths of the two.
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import { changeLoopFile } from "@oci-worker/libc/loop";

const [shown = "", wanted = ""] = process.argv.slice(2);

for (const name of readdirSync("/sys/block")) {
  if (fileOf(name) === shown) {
    const device = openSync(`/dev/${name}`, "r");
    const file = openSync(wanted, "r");
    try {
      changeLoopFile(device, file);
    } finally {
      closeSync(file);
      closeSync(device);
    }
  }
}

/** Which file a block device shows (sysfs-block-loop); undefined if it shows none. */
function fileOf(name: string): string | undefined {
  try {
    return readFileSync(`/sys/block/${name}/loop/backing_file`, "utf8").replace(/\n$/, "");
  } catch {
    return undefined;
  }
}
