import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import type { TarMember } from "@oci-worker/layer/tar/writer";

/**
 * The program `path` of this machine and the libraries that it is linked with, as a layer has them.
 *
 * @param debianPackage to be installed if there is no such program.
 */
export async function linkedProgram(path: string, debianPackage: string): Promise<TarMember[]> {
  const { stdout } = await promisify(execFile)("ldd", [path]).catch((cause: unknown) => {
    throw new Error(`missing peer: there is no ${path}, install the Debian package ${debianPackage}`, {
      cause,
    });
  });
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, library = ""]) => library);
  const paths = [path, ...libraries];
  const directories = new Set(paths.flatMap((each) => parentsOf(each)));
  return [
    ...[...directories].map((name): TarMember => ({ type: "directory", name: `${name.slice(1)}/` })),
    ...(await Promise.all(
      paths.map(async (each): Promise<TarMember> => {
        return { type: "file", name: each.slice(1), mode: 0o755, content: await readFile(each) };
      }),
    )),
  ];
}

/** The outermost first. */
function parentsOf(path: string): string[] {
  const parent = dirname(path);
  return parent === "/" ? [] : [...parentsOf(parent), parent];
}
