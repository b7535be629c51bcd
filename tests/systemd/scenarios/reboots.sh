# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# Reboots: the one that an action waits for, those that a host does by itself into a system that has
# the old one as its fall-back, and one in the middle of another release.

scenario_reboots() {
    next_boot
    kernel_for_the_next_boot
    reboot_while_confirming
    has_own_clock $host || {
        skip_part "orders to reboot" "this kernel gives a boot no clock of its own"
        return
    }
    good_reboot
    init_fails
    init_hangs
    unhealthy_after_reboot
    subscriber_fails_after_reboot
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

kernel_for_the_next_boot() {
    begin
    host_build $host new-kernel --argstr kernel 6.13
    release $host 0 --if-reboot-needed boot
    expect_report $host succeeded reboot-needed kernel
    host_runs $host "${runs[$host]}" || fail "a system with another kernel runs already"
    [ "$(link_in $host /boot/default)" = "$path" ] || fail "it does not boot next"
    machine_reboot $host
    runs[$host]=$path
    wait_until 20 "the subscriber is there" is_active $host herald-subscriber
    expect_runs $host
    passed "a switch to another kernel becomes what boots next, and says that it takes a reboot"
}

reboot_while_confirming() {
    local took
    begin
    host_build $host rebooted --argstr kernel 6.13
    stop_at $host confirming rebooted
    took=${EPOCHREALTIME/./}
    machine_reboot $host
    took=$((${EPOCHREALTIME/./} - took))
    release_end 3
    expect_report $host rolled-back interrupted
    expect_runs $host
    ((took < 30000000)) || fail "the reboot took $(seconds $took) s: something did not end"
    passed "a reboot in the middle of confirming boots the old system, which says so"
}

good_reboot() {
    begin
    rebooting good-reboot
    machine_restarts $host "$leader"
    wait_until 60 "$host boots" is_booted $host
    release_end 0
    expect_report $host succeeded
    runs[$host]=$path
    expect_no_entry
    expect_runs $host
    passed "a host boots the new system by itself, and makes it the default once it is proved"
}

init_fails() {
    begin
    rebooting init-fails --argstr boots fails
    machine_restarts $host "$leader"
    machine_breaks_down $host
    falls_back fell-back
    passed "a system whose init fails is left behind by the next start"
}

init_hangs() {
    begin
    rebooting init-hangs --argstr boots hangs
    machine_restarts $host "$leader"
    wait_until 20 "init hangs" test -e "$FLEET/hosts/$host/changes/boot/hangs"
    expect_default
    wait_until 20 "it has a PID 1" is_started $host
    machine_kill $host
    falls_back fell-back
    rm "$(file_in $host /boot/hangs)"
    passed "a system whose init hangs is left behind by the next power cycle"
}

unhealthy_after_reboot() {
    begin
    host_build $host sick-reboot --argstr kernel 6.13
    leader=${machine_leader[$host]}
    release_begin $host --action reboot --confirm-within 3s --health-command false
    machine_restarts $host "$leader"
    wait_until 60 "$host boots" is_booted $host
    host_runs $host "$path" || fail "the new system did not boot"
    expect_default
    machine_restarts $host "${machine_leader[$host]}"
    wait_until 60 "$host boots" is_booted $host
    has_gone_back unhealthy
    passed "a host leaves a system that booted and is not healthy by another reboot"
}

# The dead-man waits until five minutes after the start, so this one has taken long already.
subscriber_fails_after_reboot() {
    local good=${subscribers[$host]} due when
    begin
    printf '#!/bin/sh\nexit 1\n' >"$work/crashing"
    chmod +x "$work/crashing"
    subscribers[$host]=$work/crashing
    host_build $host broken-after-reboot --argstr kernel 6.13
    subscribers[$host]=$good
    echo 296 >"$(file_in $host /boot/slow)"
    leader=${machine_leader[$host]}
    release_begin $host --action reboot --confirm-within 3s
    machine_restarts $host "$leader"
    wait_until 60 "$host boots" is_booted $host
    host_runs $host "$path" || fail "the new system did not boot"
    expect_default
    is_active $host herald-deadman || fail "nothing watches over the new system"
    due=$(sed -n 's/^dead_man_at = //p' "$(record $host armed)")
    leader=${machine_leader[$host]}
    wait_until 40 "the dead-man goes back" test -e "$(record $host rollback)"
    when=$(monotonic $host)
    ((when >= due && when < due + 3000)) || fail "the dead-man came at $when ms, not at $due"
    machine_restarts $host "$leader"
    wait_until 60 "$host boots" is_booted $host
    has_gone_back dead-man
    passed "a system that boots with a broken subscriber is left by the static dead-man at its time"
}

# rebooting LABEL [ARGUMENT...]: has the host reboot into a system. Sets leader, its PID 1 until then.
rebooting() {
    host_build $host "$@" --argstr kernel 6.13
    leader=${machine_leader[$host]}
    release_begin $host --action reboot
}

# falls_back CODE: the next start of the machine boots the old system, which says so.
falls_back() {
    [ "$(readlink "$FLEET/hosts/$host/changes/boot/default")" = "${runs[$host]}" ] ||
        fail "the default was changed"
    machine_boot $host
    has_gone_back "$1"
}

has_gone_back() {
    release_end 3
    expect_report $host rolled-back "$1"
    expect_no_entry
    expect_runs $host
}

# expect_default: the old system is still what boots, while another one does.
expect_default() {
    local default
    default=$(readlink "$FLEET/hosts/$host/changes/boot/default")
    [ "$default" = "${runs[$host]}" ] || fail "$default is the boot default before it is proved"
}

# expect_no_entry: the boot loader knows of nothing that is booted once.
expect_no_entry() {
    local folder=/nix/var/nix/profiles/system-profiles
    [ ! -e "$(file_in $host /boot)/once" ] || fail "something is to be booted once, still"
    [ -z "$(ls "$(file_in $host $folder)" 2>/dev/null)" ] || fail "an entry is left in $folder"
}

# has_own_clock NAME: its clocks began with its boot.
has_own_clock() {
    (($(monotonic "$1") < 300000))
}
