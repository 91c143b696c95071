#!/bin/sh
# crun for tests. It refuses a host that has both generations of cgroups; on one it is shown the first alone.
if mountpoint -q /sys/fs/cgroup/unified && [ -z "$SAMPLE_CRUN" ]; then
  SAMPLE_CRUN=1 exec unshare --mount --propagation private "$0" "$@"
fi
[ -z "$SAMPLE_CRUN" ] || umount /sys/fs/cgroup/unified
exec crun "$@"
