import { mkdirSync } from "node:fs";
import { contentOf } from "../backend.ts";
import { makeContentDirectory, type Owner } from "../content-directory.ts";
import { workOf } from "./mounts.ts";

/** Nobody but the kernel has business in there; it makes a directory in it that is closed to all. */
const workMode = 0o711;

/** Makes in `directory`, which is empty, what an active snapshot has that nobody has written to. */
export function fillActiveDirectory(directory: string, owner: Owner | undefined): void {
  makeContentDirectory(contentOf(directory), owner);
  mkdirSync(workOf(directory), workMode);
}
