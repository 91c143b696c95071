import { texts } from "../kinds.ts";
import { setting } from "../setting.ts";

/** How steps look up names. */
export const nameSettings = {
  nameservers: setting(texts, {
    key: "dns.nameservers",
    fallback: [],
    unset: "the host's",
    help: "name servers of steps",
  }),
  searchDomains: setting(texts, {
    key: "dns.searchDomains",
    fallback: [],
    unset: "the host's",
    help: "search domains of steps",
  }),
  dnsOptions: setting(texts, {
    key: "dns.options",
    fallback: [],
    unset: "the host's",
    help: "resolver options of steps",
  }),
};
