# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# What every check needs: counting, waiting for a condition, failing with the logs.

checks=0
began=0    # when the check began
said=      # what a host reported last
meanwhile= # the process id of what goes on beside a check

begin() {
    began=${EPOCHREALTIME/./}
}

passed() {
    checks=$((checks + 1))
    echo "$host: $1 ($(seconds $((${EPOCHREALTIME/./} - began))) s)"
}

# seconds MICROSECONDS: prints them as seconds.
seconds() {
    printf '%d.%d' $(($1 / 1000000)) $(($1 % 1000000 / 100000))
}

# wait_until SECONDS WHAT COMMAND...
wait_until() {
    local deadline=$((SECONDS + $1))
    until "${@:3}"; do
        ((SECONDS < deadline)) || fail "waited $1 s in vain: $2${said:+, not '$said'}" "$work/publish"
        sleep 0.05
    done
}

# do_meanwhile HOST SECONDS COMMAND...: runs a command in a machine again and again, until
# end_meanwhile.
do_meanwhile() {
    while sleep "$2"; do in_machine "$1" "${@:3}" || true; done >/dev/null 2>&1 &
    meanwhile=$!
}

# end_meanwhile HOST
end_meanwhile() {
    kill "$meanwhile"
    wait "$meanwhile" 2>/dev/null || true
    wait_until 10 "systemd answers" answers "$1"
}

answers() {
    in_machine "$1" systemctl show --property=Version >/dev/null 2>&1
}

skip() {
    echo "SKIPPED: the checks on a real systemd: $1"
    [ "${HERALD_REQUIRE_SYSTEMD-}" != 1 ] || exit 1
    exit 0
}

# skip_part WHAT WHY: does the rest without it.
skip_part() {
    echo "SKIPPED: $1: $2"
    [ "${HERALD_REQUIRE_SYSTEMD-}" != 1 ] || fail "$1 could not be checked: $2"
}

# fail MESSAGE [LOG...]
fail() {
    echo "systemd failed: ${host:+$host: }$1" >&2
    local log name
    for log in "${@:2}"; do
        echo "--- the end of $(basename "$log"):" >&2
        tail -n 20 "$log" >&2 || true
    done
    for name in "${!machine_leader[@]}"; do
        echo "--- the end of the journal of $name:" >&2
        in_machine "$name" journalctl --no-pager --lines=1000 2>&1 |
            grep -viE "reload|reexec" | tail -n 60 >&2 || true
    done
    exit 1
}
