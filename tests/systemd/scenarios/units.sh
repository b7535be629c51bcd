# shellcheck shell=bash disable=SC2004,SC2034,SC2086,SC2154 # the parts of one program; names are words
# The units that the NixOS modules generate, as systemd runs them.

# units_hold SUBSCRIBER BROKER: looks at the units of a host, and of one that has the broker.
units_hold() {
    exposure "$2" herald-broker 2.0
    # It is root, and its own Nix mounts the store: this figure only must not get worse.
    exposure "$1" herald-subscriber 6.0
    logins_read_again "$2"
    subscriber_that_hangs "$1"
    broker_with_everything "$2"
}

# exposure NAME UNIT BELOW: what `systemd-analyze security` makes of a unit, 0 to 10.
exposure() {
    local said
    begin
    in_machine "$1" systemd-analyze security --no-pager "$2.service" >"$work/security"
    said=$(sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p' "$work/security")
    [ -n "$said" ] || fail "systemd-analyze gives no figure" "$work/security"
    python3 -c 'import sys; sys.exit(not float(sys.argv[1]) < float(sys.argv[2]))' "$said" "$3" ||
        fail "the exposure of $2 is $said, not below $3" "$work/security"
    passed "systemd-analyze security of $2: $said, below $3"
}

# logins_read_again NAME: a reload, as a switch makes one where only the logins changed.
logins_read_again() {
    local before
    begin
    before=$(main_pid "$1" herald-broker)
    in_machine "$1" systemctl reload herald-broker || fail "it can't be reloaded"
    wait_until 10 "the broker reads the logins again" logged "$1" herald-broker "logins and passwords were read again"
    [ "$(main_pid "$1" herald-broker)" = "$before" ] || fail "the broker was restarted"
    passed "a reload of the broker reads the logins again"
}

# broker_with_everything NAME: the unit of a broker with all listeners, ports below 1024, passwords as a
# credential, and certificates that a group may read, in place of the host's own.
broker_with_everything() {
    local own=/run/systemd/system.control/herald-broker.service before program root port
    begin
    root=$(file_in "$1" /)
    program=$(in_machine "$1" readlink "/proc/$(main_pid "$1" herald-broker)/exe")
    mkdir -p "$root"/{etc/herald-broker,run/systemd/system.control,run/secrets,var/lib/acme/broker.example.org}
    printf 'fleet = "home"\n[monitors]\ngrafana = []\n' >"$root/etc/herald-broker/home.toml"
    certificate first "$root/etc/broker.pem" "$root/run/secrets/broker.key"
    cp "$root/etc/broker.pem" "$root/etc/clients.pem"
    chown 980:980 "$root/run/secrets/broker.key"
    acme_renews "$1" first
    echo hush | "$programs/herald-broker" hash-password home/grafana >"$root/run/secrets/passwords"
    chmod 400 "$root/run/secrets/passwords"
    install -m 644 "$suite/../nix/units/broker-all.toml" "$root/etc/broker-all.toml"
    sed -E "s,@herald@/bin/herald-broker,$program,; s,@broker.toml@,/etc/broker-all.toml,; s,@[A-Za-z0-9._-]+@,/usr,g" \
        "$suite/../nix/units/herald-broker-all.service" >"$root$own"
    in_machine "$1" systemctl daemon-reload
    in_machine "$1" systemctl restart herald-broker || fail "the broker does not start"
    exposure "$1" herald-broker 2.0
    for port in 443 8883; do
        [ "$(shown_by "$1" $port)" = first ] || fail "port $port does not show the certificate"
    done
    before=$(main_pid "$1" herald-broker)
    acme_renews "$1" second
    in_machine "$1" systemctl reload herald-broker
    for port in 443 8883; do
        wait_until 10 "port $port shows the new certificate" shows "$1" $port second
    done
    [ "$(main_pid "$1" herald-broker)" = "$before" ] || fail "the broker was restarted"
    in_machine "$1" sh -c "rm $own && systemctl daemon-reload && systemctl restart herald-broker"
    passed "a broker with all listeners serves, and takes renewed certificates that a group may read"
}

# certificate NAME FILE KEY
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj "/CN=$1" \
        -out "$2" -keyout "$3" 2>/dev/null
}

# acme_renews NAME CERTIFICATE: as ACME's service in NixOS does.
acme_renews() {
    local folder
    folder=$(file_in "$1" /var/lib/acme/broker.example.org)
    certificate "$2" "$folder/fullchain.pem.new" "$folder/key.pem.new"
    chown 0:981 "$folder"{,/*.new}
    chmod 640 "$folder"/*.new
    chmod 750 "$folder"
    mv "$folder/fullchain.pem.new" "$folder/fullchain.pem"
    mv "$folder/key.pem.new" "$folder/key.pem"
}

# shown_by NAME PORT: prints whose certificate a port shows.
shown_by() {
    openssl s_client -connect "${addresses[$1]}:$2" </dev/null 2>/dev/null |
        openssl x509 -noout -subject 2>/dev/null | sed 's/.*CN *= *//'
}

shows() {
    [ "$(shown_by "$1" "$2")" = "$3" ]
}

# subscriber_that_hangs NAME: systemd notices, and starts it anew.
subscriber_that_hangs() {
    local folder=/run/systemd/system/herald-subscriber.service.d before
    begin
    # In minutes, nobody would wait for it here.
    in_machine "$1" sh -c "mkdir -p $folder && printf '[Service]\nWatchdogSec=2s\n' >$folder/soon.conf"
    in_machine "$1" systemctl daemon-reload
    in_machine "$1" systemctl restart herald-subscriber
    before=$(main_pid "$1" herald-subscriber)
    in_machine "$1" sleep 3
    [ "$(main_pid "$1" herald-subscriber)" = "$before" ] || fail "the watchdog is not fed"
    in_machine "$1" kill -STOP "$before"
    wait_until 30 "systemd starts the subscriber anew" is_active_without "$1" "$before" herald-subscriber
    in_machine "$1" sh -c "rm -r $folder && systemctl daemon-reload && systemctl restart herald-subscriber"
    passed "a subscriber that hangs is started anew by systemd"
}

# In NixOS the store is mounted read-only, and Nix mounts it anew where it writes.
scenario_read_only_store() {
    begin
    in_machine $host mount -o remount,bind,ro "$FLEET/nix/store"
    in_machine $host systemctl restart herald-subscriber
    deployed $host read-only
    in_machine $host findmnt --noheadings --output OPTIONS --mountpoint "$FLEET/nix/store" | grep -q '^ro' ||
        fail "the store is not read-only any more"
    in_machine $host mount -o remount,bind,rw "$FLEET/nix/store"
    in_machine $host systemctl restart herald-subscriber
    passed "a sandboxed subscriber fetches into a store that is mounted read-only"
}

# logged NAME UNIT TEXT
logged() {
    in_machine "$1" journalctl --no-pager --unit "$2" >"$work/journal"
    grep -qF "$3" "$work/journal"
}
