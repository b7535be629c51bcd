# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# What the activation and the way back are to outlive.

scenario_dead_man() {
    stopped_subscriber
    systemd_anew
    undisturbed_dead_man
}

stopped_subscriber() {
    local pid role
    begin
    host_build $host waits
    gate_close $host waits test-after
    release_begin $host
    gate_reached $host waits test-after
    in_machine $host systemd-inhibit --list --no-legend >"$work/inhibitors"
    grep -q 'Herald.*sleep' "$work/inhibitors" || fail "the machine could go to sleep" "$work/inhibitors"
    pid=$(main_pid $host herald-subscriber)
    in_machine $host systemctl kill --kill-whom=main --signal=KILL herald-subscriber
    wait_until 20 "the subscriber comes back" is_active_without $host "$pid" herald-subscriber
    in_machine $host systemctl stop herald-subscriber
    for role in activate dead-man; do
        is_active $host "$(unit $host $role)" || fail "$role did not outlive the subscriber"
    done
    gate_open $host waits test-after
    wait_until 20 "the activation ends" test -e "$(record $host result)"
    in_machine $host systemctl start herald-subscriber
    release_end 0
    expect_report $host succeeded
    runs[$host]=$path
    expect_runs $host
    passed "a subscriber that was killed, then stopped, in an activation takes up its result"
}

systemd_anew() {
    begin
    do_meanwhile $host 0.1 systemctl daemon-reexec
    host_build $host anew
    release $host 0
    expect_report $host succeeded
    runs[$host]=$path
    host_build $host anew-fails --argstr activation late-fail
    release $host 3
    end_meanwhile $host
    expect_report $host rolled-back activation-failed
    expect_runs $host
    passed "a commit and a roll back succeed while systemd re-executes itself again and again"
}

# What it goes back to takes its time, so that the dead-man can be killed in the middle.
undisturbed_dead_man() {
    local due when label
    begin
    host_build $host doomed
    do_meanwhile $host 1 systemctl daemon-reload
    release_begin $host --health-command false --activate-within 5s --confirm-within 3s
    wait_until 20 "the activation ends" test -e "$(record $host result)"
    in_machine $host systemctl kill --signal=KILL herald-subscriber
    in_machine $host systemctl stop herald-subscriber
    [ -e "$(record $host armed)" ] || fail "the subscriber had rolled back already"
    due=$(sed -n 's/^dead_man_at = //p' "$(record $host armed)")
    label=$(cat "${runs[$host]}/nixos-version")
    gate_close $host "$label" test-after
    in_machine $host systemctl isolate emergency.target
    kill_dead_man TERM
    wait_until 80 "the dead-man goes back" host_runs $host "${runs[$host]}"
    when=$(monotonic $host)
    ((when >= due && when < due + 3000)) || fail "the dead-man came at $when ms, not at $due"
    gate_reached $host "$label" test-after
    kill_dead_man KILL
    gate_open $host "$label" test-after
    wait_until 20 "the dead-man is done" test -e "$(record $host undone)"
    end_meanwhile $host
    in_machine $host systemctl isolate multi-user.target
    in_machine $host systemctl start herald-subscriber
    release_end 3
    expect_report $host rolled-back dead-man
    expect_runs $host
    passed "without a subscriber the dead-man goes back at its time: through daemon-reloads, the \
emergency target, and kills before and in the middle"
}

kill_dead_man() {
    local pid
    pid=$(main_pid $host "$(unit $host dead-man)")
    in_machine $host systemctl kill --signal="$1" "$(unit $host dead-man)"
    wait_until 20 "the dead-man begins again" is_active_without $host "$pid" "$(unit $host dead-man)"
}
