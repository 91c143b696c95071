import type { ExecOp } from "@oci-worker/api/buildkit/llb";
import { FailedPreconditionError, NotFoundError, PermissionDeniedError } from "@oci-worker/errdefs";
import type { Graph, Vertex } from "@oci-worker/llb/definition";
import { digestOf } from "@oci-worker/oci/digest";
import type { Logger } from "pino";
import { type DeviceGrant, deviceGrant } from "./device-grant.ts";
import type { DeviceRegistry } from "./device-registry.ts";
import type { Device, DeviceRequest, Devices } from "./devices.ts";

/** What a build is asked for that has no devices, because there are none to be had. */
const noGrant: DeviceGrant = { all: false, names: [], aliases: new Map() };

/**
 * Settles which devices the steps of `graph` get, and refuses those that neither the client nor the operator allows.
 *
 * @param registry undefined if steps have no devices here.
 * @param entitlements what the client allows its build.
 * @returns the graph with each request replaced by the devices that it stands for. Their names are part of the step then,
 *   and so of its cache key, as upstream has it; what is in their specifications is not.
 * @throws {NotFoundError} if there is no such device and the step needs it.
 * @throws {PermissionDeniedError} naming devices that are not allowed.
 */
export async function grantDevices(
  graph: Graph,
  entitlements: readonly string[],
  registry: DeviceRegistry | undefined,
  log: Logger,
): Promise<Graph> {
  const grant = deviceGrant(entitlements);
  if (registry === undefined && grant !== undefined) {
    throw new PermissionDeniedError(
      "granting entitlement device is not allowed by build daemon configuration: CDI is disabled",
    );
  }
  if (!graph.vertices.some(({ op }) => op.op.case === "exec" && op.op.value.cdiDevices.length > 0)) {
    return graph;
  }
  const devices = await registry?.read();
  const variants = new Map<string, string>();
  const vertices = graph.vertices.map((vertex) => {
    const granted = withDevices(vertex, (requests) =>
      devices === undefined ? refuseAll(requests) : settle(requests, devices, grant ?? noGrant, log),
    );
    const variant = variantOf(granted, variants);
    variants.set(vertex.digest, variant);
    return variant === "" ? granted : { ...granted, variant };
  });
  return { ...graph, vertices };
}

function withDevices(
  vertex: Vertex,
  settled: (requests: readonly DeviceRequest[]) => readonly string[],
): Vertex {
  const { op } = vertex.op;
  if (op.case !== "exec" || op.value.cdiDevices.length === 0) {
    return vertex;
  }
  const [example] = op.value.cdiDevices;
  const cdiDevices = settled(op.value.cdiDevices).map((name) => ({ ...example, name, optional: false }));
  const exec = { ...op.value, cdiDevices } as ExecOp;
  return { ...vertex, op: { ...vertex.op, op: { case: "exec", value: exec } } };
}

/**
 * The operation's digest is that of its request, which other builds may have answered in another way: what tells them
 * apart, for it and all that needs it.
 */
function variantOf({ inputs, op: { op } }: Vertex, variants: ReadonlyMap<string, string>): string {
  const own = op.case === "exec" ? op.value.cdiDevices.map(({ name }) => name) : [];
  const inherited = inputs.map(({ vertex }) => variants.get(vertex.digest) ?? "");
  return own.length === 0 && inherited.every((variant) => variant === "")
    ? ""
    : digestOf(JSON.stringify([own, inherited]));
}

/** Names of the devices that a step gets for its requests, each once. */
function settle(
  requests: readonly DeviceRequest[],
  devices: Devices,
  grant: DeviceGrant,
  log: Logger,
): readonly string[] {
  const granted = new Set(grant.names.flatMap((name) => devices.find(name)));
  const isAllowed = (device: Device) => grant.all || device.isAutoAllowed || granted.has(device);
  const found = requests.flatMap(({ name, optional }) => {
    const aliased = grant.aliases.get(name);
    return registered(devices, { name: aliased ?? name, optional }, log).map((device) => ({
      name: device.name,
      // Who gives a device another name means it to be used.
      isAllowed: aliased !== undefined || isAllowed(device),
    }));
  });
  const forbidden = new Set(found.filter((device) => !device.isAllowed).map(({ name }) => name));
  if (forbidden.size > 0) {
    throw forbiddenError([...forbidden]);
  }
  return [...new Set(found.map(({ name }) => name))];
}

function registered(devices: Devices, { name, optional }: DeviceRequest, log: Logger): readonly Device[] {
  const found = devices.find(name);
  if (found.length === 0) {
    if (!optional) {
      throw new NotFoundError(
        `required device ${JSON.stringify(name)} is not registered, want a CDI specification that has it`,
      );
    }
    log.warn({ device: name }, "step goes on without an optional device that is not registered");
  }
  return found;
}

function forbiddenError(names: readonly string[]): PermissionDeniedError {
  const list = names.join(", ");
  const requested = names.length === 1 ? `device ${list} is` : `devices ${list} are`;
  const wanted = names.map((name) => `device=${name}`).join(", ");
  return new PermissionDeniedError(
    `${requested} requested by the build but not allowed, want the client to allow ${wanted}, or the operator to in cdi.autoAllowed`,
  );
}

function refuseAll(requests: readonly DeviceRequest[]): readonly string[] {
  const needed = requests.find(({ optional }) => !optional);
  if (needed !== undefined) {
    throw new FailedPreconditionError(
      `Cannot run a step with device ${JSON.stringify(needed.name)}: CDI is disabled, want a worker without --cdi-disabled`,
    );
  }
  return [];
}
