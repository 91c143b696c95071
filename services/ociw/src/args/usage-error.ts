/** The command line is wrong: the program ends with exit code 2, as shells and getopt programs do. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
