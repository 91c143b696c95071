import { execArgv, execPath, execve } from "node:process";

/**
 * Has this program go on in a network and a mount name space of its own, in which /var/lib/cni is empty: nothing that it
 * or its children set up there reaches the host, and all of it ends with them. Import it before anything else.
 *
 * The process is the same, but begins anew (execve(2)): a network name space is entered by one thread only, and Node has
 * several.
 */
const marker = "OCI_WORKER_TEST_OWN_NETWORK";

/** Debian's plugins keep the addresses that they give away there (host-local). */
const script = `set -e
ip link set lo up
mkdir -p /var/lib/cni
mount -t tmpfs tmpfs /var/lib/cni
exec "$@"`;

if (process.env[marker] !== String(process.pid)) {
  const args = ["--net", "--mount", "--propagation", "private", "sh", "-c", script, "sh"];
  execve?.("/usr/bin/unshare", ["unshare", ...args, execPath, ...execArgv, ...process.argv.slice(1)], {
    ...process.env,
    [marker]: String(process.pid),
  });
}
