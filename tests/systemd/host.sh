# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# A host: its key, its systems, its first installation, and what is seen of it. Needs machine.sh,
# fleet.sh and the quickstart's library.

declare -A runs=()       # the system that a host should run
declare -A broker_of=()  # the broker of a host
declare -A attempt=()    # a host's own count of releases
declare -A subscribers=() # the subscriber's program in a host's next system
declare -A host_keys=()  # the hosts' public keys
path=                    # the system that was built last

# host_add NAME ADDRESS BROKER: makes a host that was not installed yet, and lets it log in.
host_add() {
    local at=$FLEET/hosts/$1 key
    addresses[$1]=$2 broker_of[$1]=$3 attempt[$1]=0
    subscribers[$1]=$FLEET/bin/herald-subscriber
    host_make "$1"
    mkdir -p "$at"/state "$at"/changes/{boot,usr/local/sbin,etc/systemd,etc/nix,nix/var/nix/profiles}
    touch "$at/changes/etc/NIXOS"
    echo "$1" >"$at/changes/etc/hostname"
    # As in NixOS, the units are those of the system that runs.
    ln -s /run/current-system/etc/systemd/system "$at/changes/etc/systemd/system"
    cp "$at/conf/nix.conf" "$at/changes/etc/nix/nix.conf"
    # Of the coreutils that NixOS has, this is in a package of its own in Debian.
    mkdir -p "$at/changes/usr/bin"
    printf '#!/bin/sh\nkill "$@"\n' >"$at/changes/usr/bin/kill"
    chmod +x "$at/changes/usr/bin/kill"
    # The broker's user, as NixOS makes it, and the group of those who may read certificates.
    cp "$image/etc/"{passwd,group} "$at/changes/etc/"
    echo 'herald-broker:x:980:980::/var/empty:/usr/sbin/nologin' >>"$at/changes/etc/passwd"
    printf '%s\n' herald-broker:x:980: acme:x:981: >>"$at/changes/etc/group"
    install "$suite"/boot-{loader,once} "$at/changes/usr/local/sbin"
    host_configuration "$1" >"$at/subscriber.toml"
    sed "s,^state_dir.*,state_dir = \"$at/state\"," "$at/subscriber.toml" >"$at/outside.toml"
    sed -i "1i trust = \"$FLEET/trust.toml\"" "$at/outside.toml"
    key=$("$FLEET/bin/herald-subscriber" public-key --config "$at/outside.toml" 2>"$at/key.log") ||
        fail "$1 has no key" "$at/key.log"
    login_add "$1" "$key"
    host_keys[$1]=$key
}

# host_configuration NAME: prints the subscriber's configuration but for the trust file.
host_configuration() {
    cat <<END
fleet = "systemd"
host = "$1"
broker = "mqtt://${broker_of[$1]}"
state_dir = "/var/lib/herald"
state = "durable-unchecked"
store_dir = "$FLEET/nix/store"
login = { kind = "signed", broker_name = "broker" }
[profiles.system]
profile = "/nix/var/nix/profiles/system"
current = "/run/current-system"
booted = "/run/booted-system"
boot_default = "/boot/default"
[reboot]
boot_loader = { kind = "command", program = ["/usr/local/sbin/boot-once"] }
END
}

# host_build NAME LABEL [ARGUMENT...]: builds and pushes a system, and sets path.
host_build() {
    local name=$1 label=$2
    path=$(
        quietly "$FLEET/operator/build.log" as_nix "$FLEET/operator" \
            nix-build "$suite/system.nix" --no-out-link --argstr host "$name" --argstr label "$label" \
            --argstr subscriber "${subscribers[$name]}" \
            --argstr configuration "$FLEET/hosts/$name/subscriber.toml" \
            --argstr trust "$FLEET/trust.toml" --argstr address "${addresses[$name]}/24" --argstr cache "$FLEET/cache" "${@:3}"
    ) || fail "$label can't be built"
    cache_push "$path"
}

# host_install NAME PATH: gives a host its first system, from outside, as an installer does.
host_install() {
    local at=$FLEET/hosts/$1
    # shellcheck disable=SC2016 # the inner shell expands them
    (
        NIX_STATE=$at/changes/nix/var/nix
        nix_environment "$at"
        export NIX_STATE_DIR=$NIX_STATE
        exec unshare --mount -- sh -euc '
            mount --bind "$1/store" "$NIX_STORE_DIR"
            nix-store --realise "$2"
            nix-env --profile "$NIX_STATE_DIR/profiles/system" --set "$2"
            ln -s "$2" "$1/changes/boot/default"
        ' sh "$at" "$2"
    ) >"$at/install.log" 2>&1 || fail "the first system of $1 can't be installed" "$at/install.log"
    runs[$1]=$2
}

# host_runs NAME PATH
host_runs() {
    [ "$(link_in "$1" /run/current-system)" = "$2" ]
}

# expect_runs NAME: the machine is as it should be: what runs, the profile, the boot default, and
# the units.
expect_runs() {
    local link said
    for link in /run/current-system /nix/var/nix/profiles/system /boot/default; do
        said=$(link_in "$1" $link)
        [ "$said" = "${runs[$1]}" ] || fail "$link of $1 is $said, not ${runs[$1]}"
    done
    expect_units "$1"
}

# expect_units NAME: systemd runs the units as the system has them.
expect_units() {
    local unit stale file=$work/units
    in_machine "$1" systemctl show --property=Id,NeedDaemonReload,ActiveState '*.service' |
        grep -B 2 '^NeedDaemonReload=yes' >"$file" || true
    [ ! -s "$file" ] || fail "systemd has not read all units of $1 again" "$file"
    for unit in network herald-subscriber steady; do
        wait_until 15 "$unit of $1 is active" is_active "$1" $unit
    done
    stale=$(subscriber_program "$1")
    grep -qF "ExecStart=$stale " "${runs[$1]}/etc/systemd/system/herald-subscriber.service" ||
        fail "the subscriber of $1 is another system's: $stale"
    [ ! -e "${runs[$1]}/etc/systemd/system/web.service" ] ||
        grep -q "ExecStart=.*exit 1" "${runs[$1]}/etc/systemd/system/web.service" ||
        [ "$(cat "$(file_in "$1" /run/web)")" = "$(cat "${runs[$1]}/nixos-version")" ] ||
        fail "web.service of $1 is another system's"
}

# is_active NAME UNIT
is_active() {
    in_machine "$1" systemctl --quiet is-active "$2"
}

# is_active_without NAME PID UNIT: it runs, and its main process is another one.
is_active_without() {
    local state
    state=$(in_machine "$1" systemctl show --property=ActiveState,MainPID --value "$3" | paste -sd' ')
    [[ " $state " == *" active "* && " $state " != *" $2 "* ]]
}

# main_pid NAME UNIT: prints the process id, as the machine sees it.
main_pid() {
    in_machine "$1" systemctl show --property=MainPID --value "$2"
}

# subscriber_program NAME: prints which program the running subscriber is.
subscriber_program() {
    in_machine "$1" readlink "/proc/$(main_pid "$1" herald-subscriber)/exe"
}

# gate_close NAME LABEL POINT: stops the switch program of a system there.
gate_close() {
    mkdir -p "$(file_in "$1" /run/gates)"
    touch "$(file_in "$1" "/run/gates/$2-$3")"
}

# gate_reached NAME LABEL POINT: waits until it has stopped.
gate_reached() {
    wait_until 30 "$2 reaches $3" test -e "$(file_in "$1" "/run/gates/$2-$3-reached")"
}

# gate_open NAME LABEL POINT
gate_open() {
    rm -f "$(file_in "$1" "/run/gates/$2-$3")"{,-reached}
}

# monotonic NAME: prints the machine's clock of deadlines, in milliseconds.
monotonic() {
    nsenter --target "${machine_leader[$1]}" --time -- \
        python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000000)'
}
