# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# Releases that bring another subscriber: one that works, and some that don't.

scenario_updates() {
    good_update
    update_by_hand
    failing_update
    crashing_subscriber
}

# next_subscriber NAME: gives the host's next systems a subscriber of another version.
next_subscriber() {
    cp "${subscribers[$1]}" "$work/next.new"
    # What follows the end of an ELF file is not read, but it makes another store path.
    echo "another version: ${attempt[$1]}" >>"$work/next.new"
    mv "$work/next.new" "$work/next"
    subscribers[$1]=$work/next
}

good_update() {
    local before bare
    begin
    deployed $host before-update
    bare=$(confirmed_after $host)
    before=$(subscriber_program $host)
    next_subscriber $host
    deployed $host updated
    [ "$(subscriber_program $host)" != "$before" ] || fail "the subscriber is still the old one"
    update=$(confirmed_after $host)
    passed "an update of the subscriber is confirmed by the new one"
    echo "$host:   from the end of the switch program to the proof: $(seconds "$update") s," \
        "$(seconds "$bare") s without an update"
    ((update < bare + 2000000)) || fail "an update takes more than 2 s longer"
}

# confirmed_after NAME: prints how many microseconds after the end of the switch program the new
# system was proved.
confirmed_after() {
    in_machine "$1" journalctl --sync
    in_machine "$1" journalctl --output=short-unix --no-pager |
        python3 "$suite/confirmed_after.py" "$(unit "$1" activate)"
}

failing_update() {
    local before
    begin
    before=$(subscriber_program $host)
    next_subscriber $host
    host_build $host update-fails
    release $host 3 --health-command false
    expect_report $host rolled-back unhealthy
    expect_runs $host
    [ "$(subscriber_program $host)" = "$before" ] || fail "the subscriber is not the old one again"
    passed "an update that is not confirmed is rolled back, the subscriber too"
}

crashing_subscriber() {
    begin
    printf '#!/bin/sh\nexit 1\n' >"$work/crashing"
    broken_subscriber crashing
    passed "a release whose subscriber does not start is rolled back by the dead-man"
}

scenario_deaf_subscriber() {
    begin
    printf '#!/bin/sh\nsystemd-notify --ready\nexec sleep infinity\n' >"$work/deaf"
    broken_subscriber deaf
    passed "a release whose subscriber does nothing is rolled back by the dead-man"
}

# broken_subscriber NAME [ARGUMENT...]: deploys such a subscriber to the host, and expects that the
# dead-man goes back at its time. The arguments are those of the release.
broken_subscriber() {
    local good=${subscribers[$host]} due when
    chmod +x "$work/$1"
    subscribers[$host]=$work/$1
    host_build $host "$1"
    subscribers[$host]=$good
    release_begin $host --activate-within 5s --confirm-within 3s "${@:2}"
    wait_until 20 "the activation ends" test -e "$(record $host result)"
    due=$(sed -n 's/^dead_man_at = //p' "$(record $host armed)")
    wait_until 60 "the dead-man goes back" host_runs $host "${runs[$host]}"
    when=$(monotonic $host)
    ((when >= due && when < due + 5000)) || fail "the dead-man came at $when ms, not at $due"
    release_end 3
    expect_report $host rolled-back dead-man
    expect_runs $host
}

# Every daemon-reload sets timers back: the dead-man is none.
scenario_reloads() {
    begin
    printf '#!/bin/sh\nexit 1\n' >"$work/crashing"
    do_meanwhile $host 0.5 systemctl daemon-reload
    broken_subscriber crashing
    end_meanwhile $host
    passed "so it is with daemon-reloads all along"
}

# Somebody at the machine switches with NixOS's own means: nobody but the subscriber restarts it.
update_by_hand() {
    local before
    begin
    before=$(subscriber_program $host)
    next_subscriber $host
    host_build $host by-hand
    # shellcheck disable=SC2016 # the inner shell expands them
    in_machine $host env "NIX_STORE_DIR=$FLEET/nix/store" sh -euc '
        nix-store --realise "$1"
        nix-env --profile /nix/var/nix/profiles/system --set "$1"
        "$1/bin/switch-to-configuration" switch
    ' sh "$path" >"$work/by-hand" 2>&1 || fail "the switch failed" "$work/by-hand"
    runs[$host]=$path
    wait_until 20 "the subscriber starts anew" subscriber_is_not "$before"
    expect_runs $host
    deployed $host after-by-hand
    passed "a subscriber that has nothing to do starts anew where somebody's own switch changed it"
}

subscriber_is_not() {
    local now
    now=$(subscriber_program $host) && [ "$now" != "$1" ]
}
