import { create } from "@bufbuild/protobuf";
import { KeyValueSchema } from "@oci-worker/api/opentelemetry/attributes";
import { type Resource, ResourceSchema } from "@oci-worker/api/opentelemetry/resource";
import { version } from "@oci-worker/daemon/version";

/** What the worker calls itself. */
export const serviceName = "oci-worker";

/**
 * Whose the worker's own spans are.
 *
 * @param attributes of the operator; they win over our own.
 */
export function ownResource(attributes: readonly (readonly [name: string, value: string])[] = []): Resource {
  const all = new Map([["service.name", serviceName], ["service.version", version], ...attributes]);
  return create(ResourceSchema, {
    attributes: [...all].map(([key, value]) =>
      create(KeyValueSchema, { key, value: { value: { case: "stringValue", value } } }),
    ),
  });
}
