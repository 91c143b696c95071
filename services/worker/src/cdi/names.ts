/** What begins and ends with a letter or a digit, as every name of a device does. */
const vendorOrClass = /^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?$/;
const deviceName = /^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$/;

/**
 * Whether `text` is the kind of a device, `vendor/class` (CDI specification, "Kind").
 *
 * Vendors need be no DNS names: those in use are read, as upstream does.
 */
export function isKind(text: string): boolean {
  const [vendor = "", className = "", ...rest] = text.split("/");
  return vendorOrClass.test(vendor) && vendorOrClass.test(className) && rest.length === 0;
}

/** Whether `text` is what a specification calls a device within its kind. */
export function isDeviceName(text: string): boolean {
  return deviceName.test(text);
}

/** Whether `text` is a device with its kind, `vendor/class=name`. */
export function isQualifiedName(text: string): boolean {
  const { kind, name } = splitName(text);
  return isKind(kind) && isDeviceName(name);
}

/** `text` at its first "="; without one it is a kind, or the name of a class that devices say they are of. */
export function splitName(text: string): { readonly kind: string; readonly name: string } {
  const end = text.indexOf("=");
  return end < 0 ? { kind: text, name: "" } : { kind: text.slice(0, end), name: text.slice(end + 1) };
}
