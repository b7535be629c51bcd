# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# What a host costs: memory through a large deploy, and how often it wakes when nothing happens.

scenario_memory() {
    local peak
    begin
    deployed $host large --argstr packages 2000
    peak=$(status_of $host VmHWM)
    passed "a closure of 2,000 paths is deployed"
    echo "$host:   the subscriber's memory was $((peak / 1024)).$((peak % 1024 * 10 / 1024)) MiB at most"
}

scenario_idle() {
    local before woken
    begin
    before=$(status_of $host voluntary_ctxt_switches)
    sleep 60
    woken=$(($(status_of $host voluntary_ctxt_switches) - before))
    # For keepalives, sent and answered, and their timers.
    ((woken <= 20)) || fail "the subscriber woke $woken times in a minute"
    passed "a subscriber that has nothing to do sleeps"
    echo "$host:   it woke $woken times in a minute"
}

# status_of NAME FIELD: prints what the kernel says of the running subscriber (proc(5)).
status_of() {
    in_machine "$1" sed -n "s/^$2:[^0-9]*\([0-9]*\).*/\1/p" \
        "/proc/$(main_pid "$1" herald-subscriber)/status"
}
