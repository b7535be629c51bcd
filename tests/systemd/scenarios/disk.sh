# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# Disks that are full.

# small_store NAME: gives a host a small file system for its store, seen only here.
small_store() {
    mount -t tmpfs -o size=512m,mode=755 store "$FLEET/hosts/$1/store"
}

scenario_disk() {
    begin
    host_build $host too-large
    fill "$FLEET/hosts/$host/store"
    release $host 4
    expect_report $host failed disk-full
    expect_runs $host
    rm "$FLEET/hosts/$host/store/filler"
    release $host 0
    expect_report $host succeeded
    runs[$host]=$path
    expect_runs $host
    passed "a full store fails a release that has touched nothing; with room it is deployed"
}

# fill FOLDER: leaves no room on a file system.
fill() {
    if dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null || [ ! -s "$1/filler" ]; then
        fail "$1 can't be filled"
    fi
}

# small_state NAME: the same for its state.
small_state() {
    local state=$FLEET/hosts/$1/state
    mv "$state" "$state.kept"
    mkdir "$state"
    mount -t tmpfs -o size=4m,mode=700 state "$state"
    cp -a "$state.kept/." "$state"
}

# The disk with the state is full from the activation on: nothing can be recorded any more.
scenario_full_state() {
    local state=$FLEET/hosts/zeta/state
    begin
    host_begin zeta
    host_build zeta unrecorded
    gate_close zeta unrecorded test-after
    release_begin zeta --activate-within 5s --confirm-within 5s
    gate_reached zeta unrecorded test-after
    fill "$state"
    gate_open zeta unrecorded test-after
    wait_until 80 "zeta goes back" host_runs zeta "${runs[zeta]}"
    [ ! -e "$(record zeta undone)" ] || fail "there was room for a record"
    rm "$state/filler"
    release_end 3
    expect_report zeta rolled-back interrupted
    expect_runs zeta
    passed "a host whose state can't be stored any more goes back, and says so when there is room"
    nothing_is_left zeta
    machine_stop zeta
}
