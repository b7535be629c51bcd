#!/bin/sh
# What NixOS's switch-to-configuration does to a machine, done to a folder that plays the machine.
# The wrapper in the system says: TOPLEVEL (this system), ROOT (the folder), HOOK (a file of shell
# text that activating runs), and ACTIVATION, how `test` and `switch` end:
#   good       exit 0
#   fails      exit 2, nothing activated
#   hangs      activates, then never ends
#   waits      activates, then waits until there is a file run/go; exit 0
#   late-fail  activates, then exit 1
#   units      activates, then exit 4: a unit failed
set -eu

action=${1:-}
case $action in
switch | boot | test | dry-activate | check) ;;
*)
    echo "usage: $0 switch|boot|test|dry-activate|check" >&2
    exit 1
    ;;
esac

current=$ROOT/run/current-system

# Points the link $2 at $1; whoever reads it sees the old target or the new one, never none.
point() {
    ln -sfn "$1" "$2.new.$$"
    mv -fT "$2.new.$$" "$2"
}

# Names the units that differ between the old system and this one, on one line.
changed_units() {
    for unit in "$current/etc/systemd/system"/*.service "$TOPLEVEL/etc/systemd/system"/*.service; do
        name=${unit##*/}
        old=$(cat "$current/etc/systemd/system/$name" 2>/dev/null) || true
        new=$(cat "$TOPLEVEL/etc/systemd/system/$name" 2>/dev/null) || true
        [ "$old" = "$new" ] || echo "$name"
    done | sort -u | paste -sd, - | sed 's/,/, /g'
}

case $action in
check)
    exit 0
    ;;
dry-activate)
    units=$(changed_units)
    [ -z "$units" ] || echo "would stop the following units: $units"
    echo "would activate the configuration..."
    [ -z "$units" ] || echo "would start the following units: $units"
    exit 0
    ;;
esac

mkdir -p "$ROOT/run/nixos" "$ROOT/boot"
exec 9>>"$ROOT/run/nixos/switch-to-configuration.lock"
if command -v flock >/dev/null && ! flock -n 9; then
    echo "Could not acquire lock" >&2
    exit 1
fi

# The boot loader comes first, as in NixOS: a `switch` that fails later has already changed it.
if [ "$action" = boot ] || [ "$action" = switch ]; then
    echo "updating the boot menu..."
    entry="NixOS $(cat "$TOPLEVEL/nixos-version") $TOPLEVEL"
    grep -qxF "$entry" "$ROOT/boot/entries" 2>/dev/null || echo "$entry" >>"$ROOT/boot/entries"
    point "$TOPLEVEL" "$ROOT/boot/default"
    [ "$action" = switch ] || exit 0
fi

units=$(changed_units)
[ -z "$units" ] || echo "stopping the following units: $units"

echo "activating the configuration..."
if [ "$ACTIVATION" = fails ]; then
    echo "Activation script snippet 'etc' failed (1)" >&2
    exit 2
fi
echo "This is $(cat "$TOPLEVEL/etc/hostname"), NixOS $(cat "$TOPLEVEL/nixos-version")." >"$ROOT/run/motd"
point "$TOPLEVEL" "$current"

[ -z "$units" ] || echo "starting the following units: $units"
sh -eu "$HOOK"
case $ACTIVATION in
hangs)
    sleep 600
    ;;
waits)
    until [ -e "$ROOT/run/go" ]; do sleep 0.05; done
    ;;
late-fail)
    echo "Failed to reload D-Bus: Connection refused" >&2
    exit 1
    ;;
units)
    echo "warning: the following units failed: web.service" >&2
    exit 4
    ;;
esac
