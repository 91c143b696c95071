import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import type { KeyText, KeyTexts } from "../cache/key-texts.ts";

/** An answer, and its type. */
export interface KeysAnswer {
  readonly body: string;
  readonly type: string;
}

/** All cache keys that are kept, with what they are made of. @throws {FailedPreconditionError} if none are kept. */
export function allKeys(texts: KeyTexts, accept: string | undefined): KeysAnswer {
  return answerOf(texts.all(), accept);
}

/**
 * The cache key that `url` asks for, and those that it is made of.
 *
 * @throws {FailedPreconditionError} if none are kept.
 * @throws {InvalidArgumentError} if it asks for none.
 * @throws {NotFoundError} if that one is not kept.
 */
export function lookedUpKey(texts: KeyTexts, url: URL, accept: string | undefined): KeysAnswer {
  const digest = url.searchParams.get("digest");
  if (digest === null) {
    throw new InvalidArgumentError("Cannot look a cache key up: want ?digest=sha256:...");
  }
  const found = texts.lookup(digest);
  if (found.length === 0) {
    throw new NotFoundError(
      `Cannot look cache key ${JSON.stringify(digest.slice(0, 100))} up: it is none that is kept, want one of /debug/cache/all`,
    );
  }
  return answerOf(found, accept);
}

/** As of buildkitd's /debug/cache, who wants JSON says so. */
function answerOf(keys: readonly KeyText[], accept = ""): KeysAnswer {
  return accept.includes("application/json")
    ? { body: `${JSON.stringify(keys.map(toJson), undefined, 2)}\n`, type: "application/json" }
    : { body: keys.map(toText).join("\n"), type: "text/plain; charset=utf-8" };
}

function toJson({ key, description, text }: KeyText) {
  return { digest: key, description, text };
}

function toText({ key, description, text }: KeyText): string {
  return `${key} (${description.replaceAll("\n", " ")}):\n  ${text}\n`;
}
