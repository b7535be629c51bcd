# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# What the operator does: publishing a release, and reading what a host says about it.

publishing=             # the process id of `herald publish`
fleet_toml=             # the fleet file in use

# release NAME EXIT [ARGUMENT...]: publishes the system that was built last, and waits for its end.
release() {
    release_begin "$1" "${@:3}"
    release_end "$2"
}

# release_begin NAME [ARGUMENT...]
release_begin() {
    attempt[$1]=$((attempt[$1] + 1))
    release_to "--host=$1=$path" "${@:2}"
}

# release_to ARGUMENT...
release_to() {
    local arguments=(--key "$FLEET/operator.key" --watch "$@")
    [[ " $* " == *" --stable-for "* ]] || arguments+=(--stable-for 0s)
    [[ " $* " == *" --confirm-within "* ]] || arguments+=(--confirm-within 8s)
    cli --fleet-file "$fleet_toml" --login-key "$FLEET/login.key" publish "${arguments[@]}" \
        >"$work/publish" 2>&1 &
    publishing=$!
}

# release_end EXIT
release_end() {
    local status=0
    wait $publishing || status=$?
    [ $status = "$1" ] || fail "publish ended with exit code $status, not $1" "$work/publish"
}

# expect_report NAME PHASE [CODE [PATTERN]]: what the host reports; the pattern is for the detail.
# A roll back is told before the status, so that can still be the one before.
expect_report() {
    wait_until 5 "$1 reports '${*:2}'" says "$@"
    said=
}

says() {
    said=$(reported "$1")
    [[ "$said" =~ ^"$2 ${3-} ".*${4-} ]]
}

# reported NAME: prints phase, code and detail.
reported() {
    cli --fleet-file "$fleet_toml" --login-key "$FLEET/login.key" status --json | python3 -c '
import json, sys
[host] = [host for host in json.load(sys.stdin)["hosts"] if host["host"] == sys.argv[1]]
print(host["phase"], host["code"] or "", " ".join((host["detail"] or "").split()))' "$1"
}

# unit NAME ROLE: the name of a unit of the host's current attempt.
unit() {
    echo "herald-system-$2-${attempt[$1]}.service"
}

# record NAME WHAT: where a file of the host's current attempt is.
record() {
    echo "$FLEET/hosts/$1/state/system/$2-${attempt[$1]}"
}

# deployed NAME LABEL [ARGUMENT...]: builds a system, deploys it, and expects that it stays. The
# arguments are the build's.
deployed() {
    host_build "$@"
    release "$1" 0
    expect_report "$1" succeeded
    runs[$1]=$path
    expect_runs "$1"
}
