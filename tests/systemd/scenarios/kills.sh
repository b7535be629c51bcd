# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# `kill -9` at each phase: of the subscriber, of what it started, and of the whole machine.

scenario_kills() {
    local victim phase
    for victim in subscriber process machine; do
        for phase in activating confirming committing rolling-back; do
            killed $victim $phase
        done
    done
    killed machine committed
}

# The same while the release brings another subscriber.
scenario_kills_of_updates() {
    local good=${subscribers[$host]} victim phase
    for victim in subscriber process machine; do
        for phase in activating confirming committing rolling-back; do
            subscribers[$host]=$good
            next_subscriber $host
            killed $victim $phase
        done
    done
    subscribers[$host]=$good
}

# killed VICTIM PHASE: a release during which VICTIM is killed in PHASE, and what that leads to.
killed() {
    local outcome arguments label=$1-$2
    begin
    outcome=$(outcome_of "$1" "$2")
    read -ra arguments <<<"$(build_arguments "$2")"
    host_build $host "$label" "${arguments[@]}"
    stop_at $host "$2" "$label"
    kill_"$1" $host "$2"
    go_on_at $host "$2" "$label"
    if [ "$outcome" = succeeded ]; then
        release_end 0
        runs[$host]=$path
    else
        release_end 3
    fi
    expect_report $host $outcome
    expect_runs $host
    passed "$1 killed while ${2/#committed/committing, once the boot default is set}: $outcome"
}

# outcome_of VICTIM PHASE: prints how the release ends, and why.
outcome_of() {
    case $1/$2 in
    subscriber/rolling-back | process/rolling-back) echo rolled-back activation-failed ;;
    machine/committed) echo succeeded ;;
    machine/rolling-back) echo rolled-back activation-failed ;;
    machine/*) echo rolled-back interrupted ;;
    process/activating) echo rolled-back interrupted ;;
    process/committing) echo rolled-back commit-failed ;;
    *) echo succeeded ;;
    esac
}

build_arguments() {
    [ "$1" != rolling-back ] || echo --argstr activation late-fail
}

# The system that stops, and where, so that the host stays in a phase.
gate_of() {
    case $2 in
    activating) echo "$3 test-after" ;;
    committing) echo "$3 boot-before" ;;
    committed) echo "$3 boot-after" ;;
    rolling-back) echo "$(cat "${runs[$1]}/nixos-version") test-before" ;;
    esac
}

# stop_at HOST PHASE LABEL: begins the release, and waits until the host is in that phase.
stop_at() {
    local gate
    if [ "$2" = confirming ]; then
        # A check that holds when the file is there.
        rm -f "$(file_in "$1" /run/gates/healthy)"
        release_begin "$1" --confirm-within 40s --health-command 'test -e /run/gates/healthy'
        wait_until 20 "the activation ends" test -e "$(record "$1" result)"
        wait_until 20 "the host confirms" phase_is "$1" confirming
        return
    fi
    read -ra gate <<<"$(gate_of "$@")"
    gate_close "$1" "${gate[@]}"
    release_begin "$1" --activate-within 60s
    gate_reached "$1" "${gate[@]}"
}

phase_is() {
    [[ "$(reported "$1")" == "$2 "* ]]
}

# go_on_at HOST PHASE LABEL
go_on_at() {
    local gate
    if [ "$2" = confirming ]; then
        mkdir -p "$(file_in "$1" /run/gates)"
        touch "$(file_in "$1" /run/gates/healthy)"
        return
    fi
    read -ra gate <<<"$(gate_of "$@")"
    gate_open "$1" "${gate[@]}"
}

kill_subscriber() {
    local pid
    pid=$(main_pid "$1" herald-subscriber)
    in_machine "$1" systemctl kill --kill-whom=main --signal=KILL herald-subscriber
    wait_until 20 "the subscriber comes back" is_active_without "$1" "$pid" herald-subscriber
}

# kill_process HOST PHASE: of the processes that the subscriber started, the one whose phase it is;
# while confirming that is the dead-man.
kill_process() {
    local -A role=([activating]=activate [confirming]=dead-man [committing]=commit
        [rolling-back]=roll-back)
    in_machine "$1" systemctl kill --signal=KILL "$(unit "$1" "${role[$2]}")"
}

kill_machine() {
    machine_kill "$1"
    machine_boot "$1"
}
