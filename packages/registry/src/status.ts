import {
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  PermissionDeniedError,
  ResourceExhaustedError,
  type ServiceError,
  UnauthenticatedError,
  UnimplementedError,
  UnknownError,
} from "@oci-worker/errdefs";
import { TransientError } from "./http/errors.ts";
import type { HttpResponse } from "./http/response.ts";
import { retryAfterMs } from "./retry-after.ts";

/** What is read of an error's body, and what of it is shown. */
const maxErrorBytes = 64 * 1024;
const maxReasonLength = 300;

/**
 * The error that an answer with a status of no use stands for, with the reason that the registry gives
 * (distribution-spec, "Error Codes").
 */
export async function statusError(response: HttpResponse): Promise<ServiceError> {
  const reason = reasonIn(await readReason(response));
  const message = `${response.attempt}: it answered HTTP ${response.status}${reason}`;
  switch (response.status) {
    case 400:
      return new InvalidArgumentError(message);
    case 401:
      return new UnauthenticatedError(message);
    case 403:
      return new PermissionDeniedError(message);
    case 404:
      return new NotFoundError(message);
    case 405:
    case 501:
      return new UnimplementedError(message);
    case 408:
    case 429:
      return transientError(message, response);
    case 409:
    case 412:
      return new FailedPreconditionError(message);
    case 413:
      return new ResourceExhaustedError(message);
    default:
      return response.status >= 500 ? transientError(message, response) : new UnknownError(message);
  }
}

function transientError(message: string, response: HttpResponse): TransientError {
  const waitMs = retryAfterMs(response.header("retry-after"), Date.now());
  return new TransientError(message, { ...(waitMs !== undefined && { retryAfterMs: waitMs }) });
}

async function readReason(response: HttpResponse): Promise<string> {
  try {
    return (await response.bytes(maxErrorBytes)).toString("utf8");
  } catch {
    // The status says enough; a body that is too long or breaks off adds nothing to it.
    return "";
  }
}

/** The reason in the body of an error: the codes and messages of the registry, or else its plain text. */
function reasonIn(body: string): string {
  const reason = (structuredReason(body) ?? (body.trimStart().startsWith("<") ? "" : body))
    .replace(/[\p{C}\s]+/gu, " ")
    .trim();
  if (reason === "") {
    return "";
  }
  return `: ${reason.length > maxReasonLength ? `${reason.slice(0, maxReasonLength)}…` : reason}`;
}

function structuredReason(body: string): string | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return undefined;
  }
  const errors = field(parsed, "errors");
  if (!Array.isArray(errors)) {
    return undefined;
  }
  const texts = errors.map((error) =>
    [field(error, "code"), field(error, "message")].filter((text) => typeof text === "string").join(": "),
  );
  return texts.filter((text) => text !== "").join("; ");
}

function field(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, key)
    ? (value as Readonly<Record<string, unknown>>)[key]
    : undefined;
}
