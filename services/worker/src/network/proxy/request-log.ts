/** One request that a step has made, as its log tells it. */
export interface RecordedRequest {
  readonly method: string;
  /** With no user and no password in it. */
  readonly url: string;
  /** What was answered, by the server or by the proxy in its stead; undefined if the step did not wait for it. */
  status: number | undefined;
}

/** The requests of a step. */
export interface RequestSummary {
  readonly requests: readonly RecordedRequest[];
  /** So many more were made than are kept. */
  readonly omitted: number;
}

/** A step that asks without end must not fill the worker's memory. */
const maxRequests = 1000;
const maxUrlLength = 2048;

/** Keeps what a step has asked for. */
export class RequestLog {
  readonly #requests: RecordedRequest[] = [];
  #omitted = 0;

  /** Keeps a request, whose status is added when there is one. */
  begin(method: string, url: string): RecordedRequest {
    const shown = url.length > maxUrlLength ? `${beginningOf(url)}...` : url;
    const request: RecordedRequest = { method, url: shown, status: undefined };
    if (this.#requests.length < maxRequests) {
      this.#requests.push(request);
    } else {
      this.#omitted += 1;
    }
    return request;
  }

  summary(): RequestSummary {
    return { requests: this.#requests, omitted: this.#omitted };
  }
}

/** A copy: a part of a text holds the whole of it in memory. */
function beginningOf(url: string): string {
  return Buffer.from(url.slice(0, maxUrlLength)).toString();
}

/** The summary as a step's log has it, in the form of upstream; empty if there was no request. */
export function summaryText({ requests, omitted }: RequestSummary): string {
  if (requests.length === 0) {
    return "";
  }
  return [
    "proxy network requests:",
    ...requests.map(
      ({ method, url, status }) => `- ${method} ${url}${status === undefined ? "" : ` -> ${status}`}`,
    ),
    ...(omitted > 0 ? [`- and ${omitted} more`] : []),
    "",
  ].join("\n");
}
