import { createServer } from "node:http2";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Snapshots } from "@oci-worker/api/containerd/snapshots";
import { stat } from "./stat.ts";

/** Serves Stat from memory, through connect-node, on the socket that is its argument. */
const [path = ""] = process.argv.slice(2);
createServer(connectNodeAdapter({ routes: (router) => router.service(Snapshots, { stat }) })).listen(
  path,
  () => {
    process.stdout.write("serving\n");
  },
);
