# shellcheck shell=bash
# step COMMAND...: says what is run, and how long it took.

step() {
    local began=$SECONDS
    echo
    echo "== $*"
    "$@"
    echo "== $((SECONDS - began)) s: $*"
}
