# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# The host that runs the broker deploys itself, while another one confirms by that broker.

neighbours=(delta epsilon)
declare -A new=() # the system that a neighbour is to get

scenario_broker() {
    local name outer=$fleet_toml
    fleet_toml=$work/fleet.toml
    fleet_file "$fleet_toml" "${broker_of[delta]}"
    install -m 644 "$FLEET/logins.toml" "$FLEET/hosts/delta/changes/etc/logins.toml"
    broker_configuration "${broker_of[delta]}" /var/lib/herald-broker /etc/logins.toml >"$work/broker.toml"
    for name in "${neighbours[@]}"; do
        fleet_add "$fleet_toml" "$name" "${host_keys[$name]}"
        build_neighbour "$name" first
        host_install "$name" "$path"
        machine_boot "$name"
    done
    for name in "${neighbours[@]}"; do
        wait_until 20 "$name reports" is_known "$name"
    done
    neighbours_deployed
    neighbours_rolled_back
    units_hold epsilon delta
    for name in "${neighbours[@]}"; do
        nothing_is_left "$name"
        machine_stop "$name"
    done
    fleet_toml=$outer
}

# build_neighbour NAME LABEL [ARGUMENT...]: the first one has the broker.
build_neighbour() {
    local broker=()
    [ "$1" != delta ] || broker=(--argstr broker "$FLEET/bin/herald-broker"
        --argstr brokerConfiguration "$work/broker.toml")
    host_build "$@" "${broker[@]}"
}

neighbours_deployed() {
    local name before
    begin
    before=$(main_pid delta herald-broker)
    neighbours_begin next
    release_end 0
    for name in "${neighbours[@]}"; do
        runs[$name]=${new[$name]}
        expect_report "$name" succeeded
        expect_runs "$name"
    done
    [ "$(main_pid delta herald-broker)" != "$before" ] || fail "the broker was not restarted"
    passed "the host of the broker deploys itself, and so does its neighbour at the same time"
}

neighbours_rolled_back() {
    local name
    begin
    neighbours_begin bad --argstr activation late-fail
    release_end 3
    for name in "${neighbours[@]}"; do
        expect_report "$name" rolled-back activation-failed
        expect_runs "$name"
    done
    passed "they roll back as well, and say so through that broker"
}

# neighbours_begin LABEL [ARGUMENT...]: begins to deploy a system to each in one release.
neighbours_begin() {
    local name targets=()
    for name in "${neighbours[@]}"; do
        build_neighbour "$name" "$@"
        new[$name]=$path
        attempt[$name]=$((attempt[$name] + 1))
        targets+=(--host "$name=$path")
    done
    release_to "${targets[@]}" --confirm-within 15s
}
