/** The one DOM type that connect 2.2 names and Node's own types lack; it spares us the whole DOM library. */
type HeadersInit = ConstructorParameters<typeof Headers>[0];
