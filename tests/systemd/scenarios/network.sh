# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# Releases that cut the machine off.

scenario_network() {
    cut_off
    network_restarts
}

cut_off() {
    local took good=${addresses[$host]}
    begin
    addresses[$host]=10.99.0.11
    host_build $host cut-off
    addresses[$host]=$good
    took=$(monotonic $host)
    release_begin $host
    wait_until 20 "the new system runs" host_runs $host "$path"
    wait_until 5 "$host is cut off" is_cut_off $host
    release_end 3
    took=$(($(monotonic $host) - took))
    expect_report $host rolled-back unreachable
    expect_runs $host
    ((took < 60000)) || fail "that took $took ms"
    passed "a release that cuts the network is rolled back by the host itself, and reported"
}

# is_cut_off NAME
is_cut_off() {
    ! in_machine "$1" ip -4 address show dev host0 | grep -q 'inet 10\.77\.'
}

# As a switch does that changes something about the network, but nothing for good.
network_restarts() {
    begin
    host_build $host network-restarts --argstr hook \
        'systemctl stop network; sleep 1; systemctl start network'
    release $host 0
    expect_report $host succeeded
    runs[$host]=$path
    expect_runs $host
    passed "a release whose switch takes the network down for a moment is committed"
}
