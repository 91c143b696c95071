import type { Meta, ProxyEnv } from "@oci-worker/api/buildkit/llb";

/** What a step finds on its path if its image does not say (BuildKit, util/system/path.go). */
export const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The environment of a step: its own, a path if that has none, and the proxies that it is to use. */
export function stepEnvironment({ env, proxyEnv }: Meta): string[] {
  const hasPath = env.some((variable) => variable.startsWith("PATH="));
  return [...(hasPath ? [] : [defaultPath]), ...env, ...proxyVariables(proxyEnv)];
}

/** In both spellings, for programs look for either. */
function proxyVariables(proxies: ProxyEnv | undefined): string[] {
  const values: readonly [name: string, value: string | undefined][] = [
    ["HTTP_PROXY", proxies?.httpProxy],
    ["HTTPS_PROXY", proxies?.httpsProxy],
    ["FTP_PROXY", proxies?.ftpProxy],
    ["NO_PROXY", proxies?.noProxy],
    ["ALL_PROXY", proxies?.allProxy],
  ];
  return values.flatMap(([name, value]) =>
    value === undefined || value === "" ? [] : [`${name}=${value}`, `${name.toLowerCase()}=${value}`],
  );
}
