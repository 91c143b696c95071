import {
  create,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { defaultMaxMessageBytes, envelope } from "./envelope.ts";

/** What goes over the wire for responses that are sent more than once. */
const envelopes = new WeakMap<object, Buffer>();

/**
 * A response that is serialized once and may be sent any number of times, by as many calls at a time as there are. It
 * must not be changed.
 *
 * To encode a small message takes longer than to look up what it tells of, so a handler that is asked the same all the
 * time keeps its answers with this.
 *
 * @throws {ResourceExhaustedError} if it is larger than peers take.
 */
export function keptResponse<S extends DescMessage>(schema: S, init: MessageInitShape<S>): MessageShape<S> {
  const response = create(schema, init);
  envelopes.set(response, envelope(toBinary(schema, response), defaultMaxMessageBytes));
  return response;
}

/**
 * A response of which `message` is the serialized form. For what is made of so many parts that putting it together as a
 * message first costs more than all else.
 *
 * @throws {ResourceExhaustedError} if it is larger than peers take.
 */
export function encodedResponse<S extends DescMessage>(schema: S, message: Uint8Array): MessageShape<S> {
  const response = create(schema);
  envelopes.set(response, envelope(message, defaultMaxMessageBytes));
  return response;
}

/** The envelope of a response that {@link keptResponse} or {@link encodedResponse} has made; undefined for any other. */
export function keptEnvelope(response: object): Buffer | undefined {
  return envelopes.get(response);
}
