import { NetMode, SecurityMode } from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { NetworkMode } from "../network/network.ts";

/** @throws {InvalidArgumentError} if it is no mode that we know. */
export function isInsecure(mode: SecurityMode): boolean {
  switch (mode) {
    case SecurityMode.SANDBOX:
      return false;
    case SecurityMode.INSECURE:
      return true;
    default:
      throw new InvalidArgumentError(`Cannot run a step with security mode ${mode}: want 0 or 1`);
  }
}

/** @throws {InvalidArgumentError} if it is no mode that we know. */
export function networkMode(mode: NetMode): NetworkMode {
  switch (mode) {
    case NetMode.UNSET:
      return "default";
    case NetMode.HOST:
      return "host";
    case NetMode.NONE:
      return "none";
    default:
      throw new InvalidArgumentError(`Cannot run a step with network mode ${mode}: want 0 to 2`);
  }
}
