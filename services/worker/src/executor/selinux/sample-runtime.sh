#!/bin/sh
# A runtime for tests that runs nothing: it tells what it is given for a step. runc does not take labels where SELinux is not in
# force. A step with the command `wait` ends when somebody writes to the fifo `gate` in its bundle.
while [ $# -gt 0 ]; do
  case $1 in
    run) run=yes ;;
    --bundle) bundle=$2; shift ;;
    --pid-file) pid=$2; shift ;;
  esac
  shift
done
[ -n "$run" ] || exit 0
echo $$ >"$pid"
mkfifo "$bundle/gate"
cat "$bundle/config.json"
! grep -q '"args":\["wait"\]' "$bundle/config.json" || read -r _ <"$bundle/gate"
