// The worker thread that the proxies of all steps run in: see proxies.ts.
import { parentPort } from "node:worker_threads";
import { Authority } from "./authority.ts";
import type { ProxyAnswer, ProxyOrder } from "./messages.ts";
import { StepProxy } from "./step-proxy.ts";

const proxies = new Map<number, StepProxy>();
let authority: Promise<Authority> | undefined;

async function answer(order: ProxyOrder): Promise<ProxyAnswer> {
  const { id } = order;
  try {
    if (order.kind === "close") {
      const summary = await proxies.get(id)?.close();
      proxies.delete(id);
      return { kind: "closed", id, summary: summary ?? { requests: [], omitted: 0 } };
    }
    authority ??= Authority.create();
    const itsAuthority = await authority;
    const proxy = await StepProxy.open(order.namespacePath, order.egressPath, itsAuthority);
    proxies.set(id, proxy);
    return { kind: "opened", id, proxy: { url: proxy.url, authority: itsAuthority.pem } };
  } catch (error) {
    return { kind: "failed", id, why: error instanceof Error ? error.message : String(error) };
  }
}

parentPort?.on("message", async (order: ProxyOrder) => parentPort?.postMessage(await answer(order)));
