import { Snapshots } from "@oci-worker/api/containerd/snapshots";
import { implement } from "@oci-worker/grpc/router";
import { serve } from "@oci-worker/grpc/serve";
import { stat } from "./stat.ts";

/** Serves Stat from memory, through our adapter, on the socket that is its argument. */
const [path = ""] = process.argv.slice(2);
await serve({ addresses: [{ path, mode: 0o600 }], implementations: [implement(Snapshots, { stat })] });
process.stdout.write("serving\n");
