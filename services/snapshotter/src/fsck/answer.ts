import { InvalidArgumentError } from "@oci-worker/errdefs";
import { checkRoot } from "./fsck.ts";
import { isClean, reportJSON, reportText } from "./report.ts";

/**
 * Does what the flags `--check`, `--repair` and `--json` ask for: tells on standard output what is wrong with `root`, and
 * makes the exit code 1 if something is.
 *
 * @throws what {@link checkRoot} throws, and {InvalidArgumentError} if `--json` stands alone.
 */
export async function answerFsck(root: string, questions: ReadonlySet<string>): Promise<void> {
  if (!questions.has("check") && !questions.has("repair")) {
    throw new InvalidArgumentError(
      "Cannot read flags: --json stands alone, want it with --check or --repair",
    );
  }
  const report = await checkRoot(root, questions.has("repair"));
  process.stdout.write(questions.has("json") ? reportJSON(report) : reportText(report));
  process.exitCode = isClean(report) ? 0 : 1;
}
