# shellcheck shell=bash disable=SC2004,SC2016,SC2034,SC2086,SC2154 # the parts of one program; names are words
# People at the machine: a hold, an order from a file, the system of before; and what an
# activation prints, as the operator sees it.

scenario_people() {
    hold_and_resume
    apply_and_go_back
    only_root_changes_something
    printed_is_told
}

# at_machine EXIT COMMAND...: runs a command of the machine's own subscriber there.
at_machine() {
    local status=0
    in_machine $host ${as-} sh -c '
        set -- $(sed -n "s/^ExecStart=//p" /etc/systemd/system/herald-subscriber.service) -- "$@"
        program=$1 configuration=$4
        shift 5
        exec "$program" "$@" --config "$configuration"
    ' sh "${@:2}" >"$work/at-machine" 2>&1 || status=$?
    [ $status = "$1" ] || fail "${*:2} ended with exit code $status, not $1" "$work/at-machine"
}

# is_at_machine PHASE
is_at_machine() {
    at_machine 0 status
    grep -q "^phase  *$1" "$work/at-machine"
}

hold_and_resume() {
    begin
    at_machine 0 hold --reason "a demonstration"
    host_build $host held
    release_begin $host
    expect_report_within 20 $host waiting held "a demonstration"
    host_runs $host "${runs[$host]}" || fail "what is held runs"
    at_machine 0 resume
    release_end 0
    runs[$host]=$path
    expect_runs $host
    passed "a held host waits, says why, and goes on when it is let go"
}

# expect_report_within SECONDS NAME PHASE...
expect_report_within() {
    wait_until "$1" "$2 reports '${*:3}'" says "${@:2}"
    said=
}

# The broker has the order too, but the host hears nothing of it.
apply_and_go_back() {
    local before=${runs[$host]}
    begin
    host_build $host from-a-file
    in_machine $host ip link set host0 down
    # One that had a connection would have to prove that the new system has one.
    in_machine $host systemctl restart herald-subscriber
    release_begin $host --out "$work/orders"
    wait_until 10 "the order is signed" test -s "$work/orders/$host.system.order"
    at_machine 0 apply --no-wait - <"$work/orders/$host.system.order"
    # For a minute after its start it waits for a connection.
    wait_until 90 "the order succeeds" is_at_machine succeeded
    runs[$host]=$path
    expect_runs $host
    in_machine $host ip link set host0 up
    release_end 0
    attempt[$host]=$((attempt[$host] + 1))
    at_machine 0 rollback
    runs[$host]=$before
    expect_runs $host
    expect_report_within 30 $host succeeded
    passed "an order is followed with no network, and the system of before comes back"
}

only_root_changes_something() {
    begin
    local as='setpriv --reuid=65534 --regid=65534 --clear-groups --'
    at_machine 0 status
    at_machine 7 hold --reason mine
    at_machine 7 rollback
    at_machine 7 consent later
    expect_runs $host
    passed "whoever is not root may look and change nothing"
}

printed_is_told() {
    begin
    host_build $host says-why --argstr hook 'echo "the hook says why"; exit 1'
    release $host 3
    expect_report $host rolled-back activation-failed
    expect_runs $host
    grep -qx "$host  | the hook says why" "$work/publish" ||
        fail "the operator does not see what the activation printed" "$work/publish"
    passed "what an activation printed into the journal is shown to the operator"
}
