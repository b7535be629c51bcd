# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# Debian machines whose PID 1 is a real systemd, in systemd-nspawn, each with a network of its own
# behind the bridge `fleet` of this shell's network namespace. Needs root.
#
#   $FLEET/hosts/NAME/changes  what the machine has changed of the image; some can be made before
#   $FLEET/hosts/NAME/store    lies over the store
#   $FLEET/hosts/NAME/state    its /var/lib/herald

declare -A machine_pid=()    # the process ids of systemd-nspawn
declare -A machine_leader=() # the process ids of the machines' PID 1
declare -A machine_cgroup=() # the cgroups that they were given, where no systemd here gives them one

# machine_boot NAME: boots a machine, and waits until systemd is up. What it changes stays.
machine_boot() {
    machine_start "$1"
    wait_until 60 "$1 boots" is_booted "$1"
}

# machine_start NAME: starts it, whatever comes of that.
machine_start() {
    local at=$FLEET/hosts/$1 nspawn
    mkdir -p "$at"/{changes,work,merged,state,store}
    # No --boot: the machine's own boot loader is its PID 1 until it knows which system to boot.
    nspawn=(systemd-nspawn --quiet --directory="$at/merged" --machine="herald-$$-$1" --hostname="$1"
        --register=no --link-journal=no --console=pipe --kill-signal=SIGRTMIN+3
        --network-bridge=fleet --capability=CAP_SYS_TIME --bind="$at/state:/var/lib/herald"
        --bind="$at/store:$FLEET/nix/store" --bind-ro="$FLEET/cache")
    if [ ! -d /run/systemd/system ]; then
        nspawn+=(--keep-unit)
        machine_cgroup[$1]=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET)
        machine_cgroup[$1]+=$(sed -n 's/^0:://p' /proc/self/cgroup)/herald-$$-$1
        mkdir -p "${machine_cgroup[$1]}" || skip "no cgroup can be made here"
    fi
    (
        [ -z "${machine_cgroup[$1]-}" ] || echo "$BASHPID" >"${machine_cgroup[$1]}/cgroup.procs"
        # NixOS has had nothing but the unified hierarchy for years, whatever this machine has.
        export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
        # The overlay is mounted where only the machine sees it, and goes with it.
        # shellcheck disable=SC2016 # the inner shell expands them
        exec unshare --mount -- setpriv --pdeathsig TERM sh -euc '
            mount -t overlay -o "lowerdir=$1,upperdir=$2/changes,workdir=$2/work" overlay "$2/merged"
            shift 2
            exec "$@"
        ' sh "$image" "$at" "${nspawn[@]}" /usr/local/sbin/boot-loader </dev/null
    ) >>"$at/console" 2>&1 &
    machine_pid[$1]=$!
}

is_booted() {
    is_started "$1" || return
    local state
    state=$(in_machine "$1" systemctl is-system-running 2>/dev/null) || [ "$state" = degraded ]
}

# is_started NAME: it has a PID 1, which is looked for.
is_started() {
    kill -0 "${machine_pid[$1]}" 2>/dev/null || fail "systemd-nspawn ended" "$FLEET/hosts/$1/console"
    local leader
    leader=$(ps -o pid= --ppid "${machine_pid[$1]}") || return
    machine_leader[$1]=${leader// /}
}

# in_machine NAME COMMAND...: runs a command in the machine, as root but in no unit.
in_machine() {
    timeout -k 5 60 nsenter --target "${machine_leader[$1]}" \
        --mount --uts --ipc --net --pid --cgroup --time -- \
        env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin LC_ALL=C HOME=/root "${@:2}"
}

# file_in NAME PATH: prints where a file of the running machine can be found from here.
file_in() {
    echo "/proc/${machine_leader[$1]}/root$2"
}

# link_in NAME PATH: prints what a link of the machine says, or nothing. A profile's link is
# followed to its generation.
link_in() {
    local link folder
    folder=$(file_in "$1" "$(dirname "$2")")
    link=$(readlink "$folder/$(basename "$2")") || return 0
    [[ $link == /* ]] || link=$(readlink "$folder/$link") || return 0
    echo "$link"
}

# machine_reboot NAME: reboots it as a person does, and waits until systemd is up again.
machine_reboot() {
    local before=${machine_leader[$1]}
    in_machine "$1" systemctl --no-block reboot || true # the answer may be cut off
    machine_restarts "$1" "$before"
    wait_until 60 "$1 boots again" is_booted "$1"
}

# machine_restarts NAME LEADER: waits until a machine, whose PID 1 was that, has gone down to be
# booted again, whoever told it to, and starts it.
machine_restarts() {
    wait_until 90 "$1 goes down" is_gone "$2"
    [ -n "${machine_cgroup[$1]-}" ] || return 0
    # With --keep-unit, systemd-nspawn leaves that to whoever started it.
    local status=0
    wait "${machine_pid[$1]}" || status=$?
    ((status == 133)) || fail "$1 ended with $status where it was to reboot" "$FLEET/hosts/$1/console"
    machine_forget "$1"
    machine_start "$1"
}

# machine_breaks_down NAME: waits until its PID 1 has ended by itself, as in a kernel's panic.
machine_breaks_down() {
    local status=0
    wait "${machine_pid[$1]}" || status=$?
    ((status != 133)) || fail "$1 went down in order" "$FLEET/hosts/$1/console"
    machine_forget "$1"
}

is_gone() {
    ! kill -0 "$1" 2>/dev/null
}

# machine_kill NAME: ends all of its processes at once, as a power cut does, but for what the
# kernel has not written yet.
machine_kill() {
    kill -KILL "${machine_leader[$1]}"
    wait "${machine_pid[$1]}" 2>/dev/null || true
    machine_forget "$1"
}

# machine_stop NAME: shuts the machine down, the hard way if it has to be.
machine_stop() {
    local signal
    for signal in TERM KILL; do
        kill -$signal "${machine_pid[$1]}" 2>/dev/null || true
        [ $signal = TERM ] || kill -KILL "${machine_leader[$1]}" 2>/dev/null || true
        for _ in {1..100}; do
            kill -0 "${machine_pid[$1]}" 2>/dev/null || break 2
            sleep 0.1
        done
    done
    wait "${machine_pid[$1]}" 2>/dev/null || true
    machine_forget "$1"
}

machine_forget() {
    unset "machine_pid[$1]" "machine_leader[$1]"
    rm -rf --one-file-system "/run/systemd/nspawn/propagate/herald-$$-$1" # left where it was killed
    [ -n "${machine_cgroup[$1]-}" ] || return 0
    # In each hierarchy, where this machine has several: systemd-nspawn makes it in systemd's too.
    local hierarchy folder
    for hierarchy in $(findmnt --list --noheadings --types cgroup,cgroup2 --output TARGET); do
        for folder in "${machine_cgroup[$1]}" "$hierarchy/${machine_cgroup[$1]##*/}"; do
            [ ! -e "$folder" ] || find "$folder" -depth -type d -exec rmdir {} \;
        done
    done
}

# machines_stop: stops all of them.
machines_stop() {
    local name
    for name in "${!machine_pid[@]}"; do
        machine_stop "$name"
    done
}
