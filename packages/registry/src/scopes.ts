/** What of a repository tokens are asked for (distribution, "Token Scope Documentation"). */
export function repositoryScope(repository: string, access: "pull" | "push"): string {
  return `repository:${repository}:${access === "push" ? "pull,push" : "pull"}`;
}

/**
 * One list of everything that `lists` ask for, in one order and spelling: equal wishes are equal texts, so that they
 * share a token.
 *
 * Actions on one resource are put together. What is no scope of three parts stays as it is.
 */
export function mergeScopes(...lists: readonly (readonly string[])[]): string[] {
  const actionsOf = new Map<string, Set<string>>();
  const others = new Set<string>();
  for (const scope of lists.flat()) {
    const colon = scope.lastIndexOf(":");
    const resource = scope.slice(0, Math.max(0, colon));
    if (!resource.includes(":")) {
      others.add(scope);
      continue;
    }
    const actions = actionsOf.get(resource) ?? new Set();
    actionsOf.set(resource, actions);
    for (const action of scope.slice(colon + 1).split(",")) {
      actions.add(action);
    }
  }
  const merged = [...actionsOf].map(([resource, actions]) => `${resource}:${[...actions].sort().join(",")}`);
  return [...merged, ...others].filter((scope) => scope !== "").sort();
}

/** The scopes in the `scope` parameter of a challenge. */
export function splitScopes(text: string | undefined): string[] {
  return (text ?? "").split(/\s+/).filter((scope) => scope !== "");
}
