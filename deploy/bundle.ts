import { chmod, cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type BuildOptions, build, type Plugin } from "esbuild";

/** Programs, each with the service that it is. */
const programs = {
  "oci-snapshotter": "snapshotter",
  "oci-worker": "worker",
  "oci-resolver": "resolver",
  ociw: "ociw",
} as const;

const project = join(import.meta.dirname, "..");

/** How a worker thread is named by the module that starts it. */
const workerReference = /new URL\("(\.\/[a-z-]+)\.ts", import\.meta\.url\)/g;

const options = {
  bundle: true,
  platform: "node",
  format: "esm",
  // What Node 26 does not know would be rewritten; it knows all that we write.
  target: "node26",
  // Errors are told by the names of their classes.
  keepNames: true,
  minifySyntax: true,
  minifyWhitespace: true,
  // The native part of koffi is found in node_modules beside the programs.
  external: ["@koromix/*"],
  // Packages that are CommonJS, such as pino, ask for modules of Node by require().
  banner: {
    js: 'import { createRequire as createRequireOfBundle } from "node:module"; const require = createRequireOfBundle(import.meta.url);',
  },
  // Licences are copied whole instead.
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
} as const satisfies BuildOptions;

/**
 * Writes all programs into `directory`, which needs nothing but Node then: `bin` holds what to start, and beside it are a
 * directory for each service with its one file, one more for each kind of worker thread, and what is native.
 */
export async function bundle(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(join(directory, "bin"), { recursive: true });
  const packages = new Set<string>();
  for (const [program, service] of Object.entries(programs)) {
    const entry = join(project, "services", service, "src/main.ts");
    for (const name of await bundleWithThreads(entry, join(directory, service))) {
      packages.add(name);
    }
    const launcher = join(directory, "bin", program);
    await writeFile(launcher, await launcherOf(program, service));
    await chmod(launcher, 0o755);
  }
  await writeFile(join(directory, "package.json"), '{ "type": "module" }\n');
  await copyNative(join(directory, "node_modules/@koromix"));
  await copyLicences(packages, join(directory, "licenses"));
}

/**
 * Bundles `entry`, and beside it every worker thread that it starts, each under its own name.
 *
 * @returns the packages of others that are in there.
 */
async function bundleWithThreads(entry: string, outdir: string): Promise<Set<string>> {
  const entries = new Set([entry]);
  const packages = new Set<string>();
  // The set grows while it is walked: a thread may start others.
  for (const entryPoint of entries) {
    const { metafile } = await build({
      ...options,
      absWorkingDir: project,
      entryPoints: [entryPoint],
      outdir,
      plugins: [threads(entries)],
    });
    for (const input of Object.keys(metafile.inputs)) {
      const name = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1];
      if (name !== undefined) {
        packages.add(name);
      }
    }
  }
  return packages;
}

/** Adds to `entries` the modules of worker threads, and has them named as they are in the bundle. */
function threads(entries: Set<string>): Plugin {
  return {
    name: "threads",
    setup({ onLoad }) {
      onLoad({ filter: /\/(packages|services)\/.*\.ts$/ }, async ({ path }) => {
        const text = await readFile(path, "utf8");
        const contents = text.replace(workerReference, (_match, name: string) => {
          entries.add(resolve(dirname(path), `${name}.ts`));
          return `new URL("${name}.js", import.meta.url)`;
        });
        return { contents, loader: "ts" };
      });
    },
  };
}

/** What starts the program from source, with its places in a bundle. */
async function launcherOf(program: string, service: string): Promise<string> {
  const places = new Map([
    ['"$home/src/main.ts"', `"$home/${service}/main.js"`],
    ["$home/../../node_modules/", "$home/../node_modules/"],
  ]);
  let text = await readFile(join(project, "services", service, "bin", program), "utf8");
  for (const [source, bundled] of places) {
    if (!text.includes(source)) {
      throw new Error(`Cannot bundle ${program}: its launcher does not name ${source}`);
    }
    text = text.replace(source, () => bundled);
  }
  return text;
}

/** Copies the native part of koffi for this platform, which npm has chosen. */
async function copyNative(target: string): Promise<void> {
  const name = `koffi-${process.platform}-${process.arch}`;
  const fromKoffi = createRequire(createRequire(import.meta.url).resolve("koffi"));
  const source = dirname(fromKoffi.resolve(`@koromix/${name}`));
  await cp(source, join(target, basename(source)), { recursive: true });
}

/** The licences of `packages`, as theirs want whoever hands them on to do, and ours. */
async function copyLicences(packages: ReadonlySet<string>, target: string): Promise<void> {
  for (const name of [...packages].sort()) {
    const source = join(project, "node_modules", name);
    const files = (await readdir(source)).filter((file) => /^(licen[cs]e|copying|notice)(\.|$)/i.test(file));
    for (const file of files) {
      await cp(join(source, file), join(target, name, file));
    }
    if (files.length === 0) {
      const { license } = JSON.parse(await readFile(join(source, "package.json"), "utf8"));
      await mkdir(join(target, name), { recursive: true });
      await writeFile(join(target, name, "LICENSE"), `${name}: ${license}\n`);
    }
  }
  await cp(join(project, "LICENSE"), join(target, "LICENSE"));
}

if (import.meta.main) {
  const { positionals } = parseArgs({ allowPositionals: true });
  await bundle(resolve(positionals[0] ?? join(project, "dist")));
}
