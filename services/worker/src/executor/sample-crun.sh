#!/bin/sh
# crun for tests. It refuses a host that has both generations of cgroups; on one it is shown the first alone. The second is
# covered and not unmounted, which a user name space may not do.
if mountpoint -q /sys/fs/cgroup/unified && [ -z "$SAMPLE_CRUN" ]; then
  SAMPLE_CRUN=1 exec unshare --mount --propagation private "$0" "$@"
fi
[ -z "$SAMPLE_CRUN" ] || mount -t tmpfs tmpfs /sys/fs/cgroup/unified
exec crun "$@"
