# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# Orderly reboots: the one that an action waits for, and one in the middle of another release.

scenario_reboots() {
    next_boot
    reboot_while_confirming
}

next_boot() {
    begin
    host_build $host next-boot
    release $host 0 --action boot
    expect_report $host succeeded
    host_runs $host "${runs[$host]}" || fail "what only boots next runs already"
    machine_reboot $host
    runs[$host]=$path
    wait_until 20 "the subscriber is there" is_active $host herald-subscriber
    expect_report $host succeeded
    expect_runs $host
    passed "what was released for the next boot runs after it"
}

reboot_while_confirming() {
    local took
    begin
    host_build $host rebooted
    stop_at $host confirming rebooted
    took=$(monotonic)
    machine_reboot $host
    took=$(($(monotonic) - took))
    release_end 3
    expect_report $host rolled-back interrupted
    expect_runs $host
    ((took < 30000)) || fail "the reboot took $took ms: something did not end"
    passed "a reboot in the middle of confirming boots the old system, which says so"
}
