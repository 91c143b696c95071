/** Whether an environment says where programs are to send their spans (OpenTelemetry, "OTLP Exporter Configuration"). */
export function namesCollector(environment: NodeJS.ProcessEnv): boolean {
  const { OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT } =
    environment;
  return [
    OTEL_TRACES_EXPORTER?.replace(/^none$/, ""),
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
  ].some((value) => value !== undefined && value !== "");
}
