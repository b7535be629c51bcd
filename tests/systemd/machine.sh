# shellcheck shell=bash
# A Debian machine whose PID 1 is a real systemd, in systemd-nspawn. It shares this machine's
# network, so that a broker on the loopback is its broker too. Needs root.

image=          # the folder of the Debian that it is a copy of
machine=        # the process id of systemd-nspawn
machine_cgroup= # the cgroup that it was given, where no systemd here gives it one

# machine_image FOLDER: makes a Debian with systemd and Nix in the folder, unless it is there, and
# sets image. The packages come from where this machine's apt gets its own.
machine_image() {
    local folder=$1 suite mirror
    mkdir -p "$folder"
    exec 8>"$folder/lock"
    flock 8
    for suite in ${HERALD_SUITES:-trixie bookworm}; do
        image=$folder/$suite
        [ ! -e "$image" ] || break
        if [ -z "${mirror-}" ]; then
            mirror=$(debian_mirror) || skip "this machine's apt has no Debian mirror (apt-get update?)"
            command -v debootstrap >/dev/null || skip "debootstrap is missing"
        fi
        echo "making a Debian $suite in $image: some minutes, once"
        rm -rf --one-file-system "$image.new"
        if make_image "$suite" "$mirror" "$image.new" >"$image.log" 2>&1; then
            mv "$image.new" "$image"
            break
        fi
        echo "that failed:"
        tail -n 5 "$image.log"
        image=
    done
    exec 8>&-
    [ -n "$image" ] || skip "no Debian could be had from $mirror"
}

# debian_mirror: prints the address of this machine's Debian mirror.
debian_mirror() {
    command -v apt-get >/dev/null || return 1
    # shellcheck disable=SC2016 # apt expands them
    apt-get indextargets --format '$(ORIGIN)/$(LABEL)/$(COMPONENT) $(REPO_URI)' \
        'Created-By: Packages' | sed -n 's,^Debian/Debian/main ,,p' | grep -m 1 .
}

# make_image SUITE MIRROR FOLDER. Nix comes second: debootstrap would leave it unconfigured.
make_image() {
    debootstrap --force-check-gpg --variant=minbase --include=systemd-sysv,dbus "$1" "$3" "$2" || return
    # In a mount namespace of its own, /proc is gone from the folder whatever happens.
    # shellcheck disable=SC2016 # the inner shell expands them
    unshare --mount -- sh -euc '
        mount -t proc proc "$1/proc"
        export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
        chroot "$1" apt-get install -y -q --no-install-recommends nix-bin
        chroot "$1" apt-get clean
    ' sh "$3"
}

# machine_start FOLDER ARGUMENT...: boots a copy of the image that takes its changes into
# FOLDER/changes, where some can be made before. The arguments are systemd-nspawn's.
machine_start() {
    local at=$1 nspawn
    shift
    mkdir -p "$at/changes" "$at/work" "$at/root"
    nspawn=(systemd-nspawn --quiet --boot --directory="$at/root" --machine="herald-$$"
        --register=no --link-journal=no --console=pipe "$@")
    if [ ! -d /run/systemd/system ]; then
        nspawn+=(--keep-unit)
        machine_cgroup=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET)
        machine_cgroup+=$(sed -n 's/^0:://p' /proc/self/cgroup)/herald-$$
        mkdir "$machine_cgroup" || skip "no cgroup can be made here"
    fi
    (
        [ -z "$machine_cgroup" ] || echo "$BASHPID" >"$machine_cgroup/cgroup.procs"
        # NixOS has had nothing but the unified hierarchy for years, whatever this machine has.
        export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
        # The overlay is mounted where only the machine sees it, and goes with it.
        # shellcheck disable=SC2016 # the inner shell expands them
        exec unshare --mount -- setpriv --pdeathsig TERM sh -euc '
            mount -t overlay -o "lowerdir=$1,upperdir=$2/changes,workdir=$2/work" overlay "$2/root"
            shift 2
            exec "$@"
        ' sh "$image" "$at" "${nspawn[@]}" </dev/null
    ) >"$at/console" 2>&1 &
    machine=$!
    wait_until 60 "the machine boots" is_booted
}

is_booted() {
    kill -0 "$machine" 2>/dev/null || fail "systemd-nspawn ended" "$FLEET/machine/console"
    local state
    state=$(in_machine systemctl is-system-running 2>/dev/null) || [ "$state" = degraded ]
}

# in_machine COMMAND...: runs a command in the machine, as root but in no unit.
in_machine() {
    local leader
    leader=$(ps -o pid= --ppid "$machine") || return
    timeout -k 5 60 nsenter --target "${leader// /}" --mount --uts --ipc --pid --cgroup -- \
        env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin LC_ALL=C "$@"
}

# machine_stop: shuts the machine down, the hard way if it has to be.
machine_stop() {
    [ -n "$machine" ] || return 0
    local leader signal
    leader=$(ps -o pid= --ppid "$machine") || true
    for signal in TERM KILL; do
        kill -$signal "$machine" 2>/dev/null || true
        # shellcheck disable=SC2086 # one word, or none
        [ $signal = TERM ] || kill -KILL $leader 2>/dev/null || true
        for _ in {1..100}; do
            kill -0 "$machine" 2>/dev/null || break 2
            sleep 0.1
        done
    done
    wait "$machine" 2>/dev/null || true
    machine=
    rm -rf --one-file-system "/run/systemd/nspawn/propagate/herald-$$" # left where it was killed
    if [ -n "$machine_cgroup" ]; then
        find "$machine_cgroup" -depth -type d -exec rmdir {} \;
    fi
}
