# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# Releases that are good, and releases that are bad in each way in which a switch can end.

scenario_releases() {
    good_release
    activation_that_fails
    activation_that_fails_late
    incompatible_init
    unit_that_fails_at_once
    unit_that_fails_later
    tolerated_unit
    refusing_check
    hanging_activation
    foreign_switch
    cut_off_lists
}

good_release() {
    local steady
    begin
    steady=$(main_pid $host steady)
    host_build $host good --argstr systemd 2
    release $host 0
    expect_report $host succeeded
    runs[$host]=$path
    expect_runs $host
    [ "$(main_pid $host steady)" = "$steady" ] || fail "a unit that did not change was restarted"
    in_machine $host journalctl --sync
    in_machine $host journalctl --output=cat "_SYSTEMD_UNIT=$(unit $host activate)" >"$work/journal"
    grep -q '^activating the configuration' "$work/journal" &&
        grep -q '^restarting systemd' "$work/journal" ||
        fail "$(unit $host activate) said nothing" "$work/journal"
    passed "a good release with another systemd is committed; what it printed is in the journal"
}

activation_that_fails() {
    begin
    host_build $host fails --argstr activation fails
    release $host 3
    expect_report $host rolled-back activation-failed "exited with 2: .*snippet 'etc' failed"
    expect_runs $host
    passed "exit status 2, with the new system half active, is rolled back and says what was printed"
}

activation_that_fails_late() {
    begin
    host_build $host late --argstr activation late-fail
    release $host 3
    expect_report $host rolled-back activation-failed "exited with 1: .*reload D-Bus"
    expect_runs $host
    passed "exit status 1 after the new system is active is rolled back"
}

incompatible_init() {
    begin
    host_build $host incompatible --argstr activation incompatible
    release $host 3
    expect_report $host rolled-back activation-failed "exited with 100"
    expect_runs $host
    passed "exit status 100, an init that only a reboot can bring, is rolled back"
}

unit_that_fails_at_once() {
    begin
    host_build $host web-fails --argstr web fails
    release $host 3 --confirm-within 2s
    expect_report $host rolled-back unhealthy "failed units: web.service"
    expect_runs $host
    passed "exit status 4, a unit that newly fails, is rolled back and named"
}

unit_that_fails_later() {
    local ended
    begin
    host_build $host web-later --argstr web fails-later
    release_begin $host --stable-for 7s --confirm-within 9s
    wait_until 20 "the new system runs" host_runs $host "$path"
    ended=$(monotonic $host)
    release_end 3
    ended=$(($(monotonic $host) - ended))
    expect_report $host rolled-back unhealthy "failed units: web.service"
    expect_runs $host
    ((ended >= 4500)) || fail "it was rolled back after $ended ms already"
    passed "a unit that fails after 5 s, within stable_for, is rolled back"
}

tolerated_unit() {
    begin
    host_build $host tolerated --argstr web fails
    release $host 0 --tolerate web.service
    expect_report $host succeeded
    runs[$host]=$path
    expect_runs $host
    deployed $host healed
    passed "a failing unit that the release tolerates is committed, and healed by the next one"
}

# A check that refuses every system from now on must not keep the way back shut.
refusing_check() {
    begin
    host_build $host refused
    gate_close $host check fails
    release $host 3
    expect_report $host rolled-back activation-failed "Pre-switch check 'switchInhibitors' failed"
    expect_runs $host
    clean_roll_back $host
    gate_open $host check fails
    passed "a check that refuses the new system is rolled back, though it would refuse the old one too"
}

hanging_activation() {
    local cgroup
    begin
    # A process that the switch program leaves behind, in a session of its own and deaf to TERM.
    host_build $host hangs --argstr hook \
        'setsid sh -c "trap : TERM; while :; do sleep 1; done" &'
    gate_close $host hangs test-after
    release_begin $host --activate-within 6s
    wait_until 20 "the new system runs" host_runs $host "$path"
    cgroup=/sys/fs/cgroup/system.slice/$(unit $host activate)
    in_machine $host test -d "$cgroup" || fail "there is no $cgroup"
    release_end 3
    expect_report $host rolled-back limit-reached "did not end within 6s: .*starting the following"
    expect_runs $host
    ! in_machine $host test -e "$cgroup" || fail "something of the activation is left in $cgroup"
    gate_open $host hangs test-after
    passed "a hanging activation is killed at its limit with all that it started, and rolled back"
}

# Somebody at the machine switches at the same time: the lock of both is one.
foreign_switch() {
    local lock
    begin
    host_build $host late-again --argstr activation late-fail
    in_machine $host mkdir -p /run/nixos
    # From before the release on: it is refused, and nothing is touched.
    in_machine $host flock /run/nixos/switch-to-configuration.lock sleep 4 &
    lock=$!
    wait_until 5 "the lock is taken" lock_is_taken $host
    release $host 4
    expect_report $host failed arm-failed "another switch is at work"
    wait $lock
    # From the end of the activation on: the way back waits for it.
    gate_close $host late-again test-after
    release_begin $host
    gate_reached $host late-again test-after
    in_machine $host sh -c 'while ! flock --nonblock /run/nixos/switch-to-configuration.lock \
        sleep 4; do :; done' &
    lock=$!
    gate_open $host late-again test-after
    release_end 3
    wait $lock
    expect_report $host rolled-back activation-failed
    expect_runs $host
    passed "a switch by somebody else is not cut off: a release is refused, a roll back waits for it"
}

lock_is_taken() {
    in_machine "$1" sh -c '! flock --nonblock /run/nixos/switch-to-configuration.lock true'
}

# The switch program is killed when its lists name a unit that only the new system has.
cut_off_lists() {
    begin
    host_build $host lists --argstr extra extra.service
    gate_close $host lists test-lists
    release_begin $host
    gate_reached $host lists test-lists
    echo extra.service >>"$(file_in $host /run/nixos/start-list)"
    in_machine $host systemctl kill --signal=KILL "$(unit $host activate)"
    release_end 3
    expect_report $host rolled-back interrupted
    expect_runs $host
    # A second try would succeed, as a switch program clears the lists whatever becomes of it.
    clean_roll_back $host
    passed "units of the new system are not started by the roll back of a switch that was cut off"
}

# clean_roll_back NAME: the last one did all at its first try, and had no problem.
clean_roll_back() {
    in_machine "$1" journalctl --sync
    in_machine "$1" journalctl --output=cat "_SYSTEMD_UNIT=$(unit "$1" roll-back)" >"$work/journal"
    ! grep 'while rolling back' "$work/journal" >&2 || fail "the roll back had problems"
}
