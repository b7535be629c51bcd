# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# The fleet around the machines: their network, the broker outside of them, and the operator. The
# network namespace is this shell's own, so nothing of it is seen elsewhere or left over.

outside=10.77.0.1       # this shell's address
broker=                 # the broker's process id
declare -A addresses=() # the machines' addresses

fleet_begin() {
    local operator login
    ip link set lo up
    ip link add fleet type bridge
    ip address add $outside/24 dev fleet
    ip link set fleet up

    FLEET=$(mktemp -d)
    # In memory: each deploy syncs file systems, and would wait for whatever else this machine writes.
    mount -t tmpfs -o mode=755 fleet "$FLEET"
    fleet_make "$FLEET"
    fleet_toml=$FLEET/fleet.toml
    # A build elsewhere meanwhile would take the running programs' own files away. Without their
    # debug information they are as large as those that are shipped.
    mkdir "$FLEET/bin"
    for program in herald herald-broker herald-subscriber; do
        strip -o "$FLEET/bin/$program" "$programs/$program"
    done
    operator=$(cli key generate operator --out "$FLEET/operator.key" 2>/dev/null)
    login=$(cli key generate alice --out "$FLEET/login.key" 2>/dev/null)
    printf 'fleet = "systemd"\n[release]\nthreshold = 1\nkeys = ["%s"]\n' "$operator" >"$FLEET/trust.toml"
    printf 'fleet = "systemd"\n[operators]\nalice = ["%s"]\n[hosts]\n' "$login" >"$FLEET/logins.toml"
    fleet_file "$fleet_toml" $outside
    broker_configuration $outside "$FLEET/broker" "$FLEET/logins.toml" >"$FLEET/broker.toml"
    "$FLEET/bin/herald-broker" --config "$FLEET/broker.toml" >"$FLEET/broker.out" 2>"$FLEET/broker.log" &
    broker=$!
    wait_until 10 "the broker listens" grep -qs '^listening' "$FLEET/broker.out"
}

# broker_configuration ADDRESS STATE LOGINS
broker_configuration() {
    cat <<END
state = "$2"
names = ["broker"]
logins = ["$3"]
[[listener]]
address = "$1:1883"
transport = "tcp"
plaintext = true
END
}

# fleet_file FILE BROKER: the operator's view of the fleet, without its hosts.
fleet_file() {
    cat >"$1" <<END
fleet = "systemd"
broker = "mqtt://$2"
[login]
kind = "signed"
broker_name = "broker"
END
}

# fleet_add FILE NAME KEY: adds a host to the operator's view.
fleet_add() {
    printf '[hosts.%s]\nkey = "%s"\n' "$2" "$3" >>"$1"
}

# login_add NAME KEY: lets a host log in.
login_add() {
    printf '%s = ["%s"]\n' "$1" "$2" >>"$FLEET/logins.toml"
    kill -HUP $broker
}

# cli ARGUMENT...: runs the operator's `herald`.
cli() {
    (
        nix_environment "$FLEET/operator"
        exec timeout -k 5 180 "$FLEET/bin/herald" "$@"
    )
}

fleet_end() {
    trap '' INT TERM HUP
    local id
    for id in $(jobs -pr); do
        kill "$id" 2>/dev/null || true
    done
    wait
    [ -n "$FLEET" ] || return 0
    local ids
    while ids=$(host_processes) && [ -n "$ids" ]; do
        # shellcheck disable=SC2086 # one word for each id
        kill -KILL $ids 2>/dev/null || true
        sleep 0.05
    done
    umount --recursive "$FLEET"
    rmdir "$FLEET"
}
