/** What is known when a request needs an authorization. */
export interface AuthorizationQuery {
  /** Name or address of the host the request goes to, with `:port` if it has one. */
  readonly host: string;
  /** Values of the WWW-Authenticate headers of the 401 just received; none before the first request. */
  readonly challenges: readonly string[];
  /** The value that this 401 refused, if one was sent. */
  readonly refused?: string;
  /** Scopes needed beside those of the repository itself, such as `repository:library/debian:pull`. */
  readonly extraScopes?: readonly string[];
}

/** The value of one Authorization header. */
export interface Authorization {
  /** Undefined: send none. */
  readonly value?: string;
  /** When to ask again, in milliseconds since 1970; undefined: when it is refused. */
  readonly expiresAtMs?: number;
}

/** Whoever knows credentials for the hosts of one repository. */
export interface Authorizer {
  /**
   * Finds the authorization for the next request.
   *
   * Asked without challenges before the first request to a host, and with them after each 401. A request is
   * repeated only with another value than the one that was refused.
   */
  authorize(query: AuthorizationQuery, signal: AbortSignal | undefined): Promise<Authorization>;
}

/** Answers a Basic challenge of `host`, and of no other one, with a fixed user name and password. */
export function basicAuthorizer(host: string, username: string, password: string): Authorizer {
  const value = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  return {
    authorize: (query) =>
      Promise.resolve(
        query.host === host && query.challenges.some((each) => /^basic\b/i.test(each)) ? { value } : {},
      ),
  };
}
