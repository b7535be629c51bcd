# shellcheck shell=bash
# A small fleet on one machine: an operator who builds, a signed binary cache, and hosts that each
# have a Nix store of their own. Nothing outside one folder is touched, /nix included.
#
#   $FLEET/nix/store      what everyone calls the store. Outside it is the operator's; each host has
#                         a mount namespace in which its own folder lies over it.
#   $FLEET/cache          the binary cache; cache.key and cache.pub beside it
#   $FLEET/operator/      the operator's Nix state
#   $FLEET/hosts/NAME/    a host: store/, its Nix state, root/ (plays `/`), profiles/
#
# Needs nix, unshare and mount, and either root or unprivileged user namespaces.

quickstart=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
FLEET= # whatever the caller's environment says: fleet_remove removes it

# fleet_make FOLDER: makes an empty fleet in an existing folder, and sets FLEET.
fleet_make() {
    FLEET=$(realpath "$1") # Nix refuses a store behind a symbolic link
    case $FLEET in
    *[!A-Za-z0-9/._-]*)
        echo "cannot keep a Nix store under '$FLEET': only letters, digits and . _ - / are safe" >&2
        return 1
        ;;
    esac
    mkdir -p "$FLEET/nix/store" "$FLEET/cache" "$FLEET/hosts"
    nix_make "$FLEET/operator" "substituters ="
    as_nix "$FLEET/operator" \
        nix-store --generate-binary-cache-key fleet-cache-1 "$FLEET/cache.key" "$FLEET/cache.pub"
}

# host_make NAME: adds a host with an empty store, which takes only what the cache's key has signed.
host_make() {
    local at=$FLEET/hosts/$1
    mkdir -p "$at/store" "$at/root/run" "$at/profiles"
    nix_make "$at" \
        "substituters = file://$FLEET/cache" \
        "trusted-public-keys = $(cat "$FLEET/cache.pub")"
    if as_nix "$at" nix show-config 2>/dev/null | grep -q '^fsync-store-paths'; then
        echo "fsync-store-paths = true" >>"$at/conf/nix.conf"
    fi
}

# build_system HOST LABEL [ARGUMENT...]: builds a system, and prints its store path. The further
# arguments are nix-build's: `--argstr activation fails`.
build_system() {
    local host=$1 label=$2
    shift 2
    quietly "$FLEET/operator/build.log" as_nix "$FLEET/operator" \
        nix-build "$quickstart/system.nix" --no-out-link --argstr host "$host" \
        --argstr root "$FLEET/hosts/$host/root" --argstr label "$label" "$@"
}

# cache_push PATH...: signs the paths and what they need, and copies them to the cache.
cache_push() {
    # Uncompressed: for thousands of tiny files xz costs more than all the rest.
    quietly "$FLEET/operator/copy.log" as_nix "$FLEET/operator" nix copy \
        --to "file://$FLEET/cache?secret-key=$FLEET/cache.key&compression=none" "$@"
}

# in_host NAME COMMAND...: runs a command as the host sees the world.
in_host() {
    (exec_in_host "$@")
}

# exec_in_host NAME COMMAND...: the same in place of this shell, so that `exec_in_host ... &` leaves
# the command's own process id in $!.
exec_in_host() {
    local at=$FLEET/hosts/$1 namespace=(--mount) mount
    shift
    [ "$(id -u)" = 0 ] || namespace+=(--map-root-user)
    # By its path: NixOS finds a setuid wrapper first, which refuses in a user namespace.
    mount=$(dirname "$(command -v unshare)")/mount
    [ -x "$mount" ] || mount=mount
    nix_environment "$at"
    # shellcheck disable=SC2016 # the inner shell expands them
    exec unshare "${namespace[@]}" -- \
        sh -c '"$0" --bind "$1" "$2" && shift 2 && exec "$@"' \
        "$mount" "$at/store" "$FLEET/nix/store" "$@"
}

# host_install NAME PATH: gives a host its first system, from the cache, as an installer would.
host_install() {
    local at=$FLEET/hosts/$1
    # shellcheck disable=SC2016 # the inner shell expands them
    quietly "$at/install.log" in_host "$1" sh -euc '
        exec >&2
        nix-store --realise "$1"
        nix-env --profile "$2" --set "$1"
        "$1/bin/switch-to-configuration" switch
        ln -s "$1" "$3"
    ' sh "$2" "$at/profiles/system" "$at/root/run/booted-system"
}

# host_processes: prints the id of every process in a host's namespace, whoever its parent is.
host_processes() {
    grep -lsF " $FLEET/nix/store " /proc/[0-9]*/mountinfo | cut -d/ -f3 || true
}

# fleet_remove: kills what still runs in the hosts, and removes the folder.
fleet_remove() {
    local ids
    while ids=$(host_processes) && [ -n "$ids" ]; do
        # shellcheck disable=SC2086 # one word for each id
        kill -KILL $ids 2>/dev/null || true
        sleep 0.05
    done
    chmod -R u+w "$FLEET" # store paths are read-only, which stops all but root
    rm -rf "$FLEET"
}

# quietly LOG COMMAND...: keeps what the command says on stderr in a file, and shows it if it fails.
quietly() {
    local log=$1
    shift
    "$@" 2>"$log" || {
        cat "$log" >&2
        return 1
    }
}

# nix_make FOLDER SETTING...: prepares a folder for as_nix.
nix_make() {
    local at=$1
    shift
    mkdir -p "$at/conf" "$at/home" "$at/tmp"
    printf '%s\n' "sandbox = false" "build-users-group =" "experimental-features = nix-command" \
        "$@" >"$at/conf/nix.conf"
}

# as_nix FOLDER COMMAND...: runs a command with the Nix state and configuration in the folder.
as_nix() {
    (
        nix_environment "$1"
        shift
        "$@"
    )
}

# nix_environment FOLDER: points Nix at the folder, for the rest of this shell, and takes away all
# that the caller's environment or home would tell it.
nix_environment() {
    unset NIX_REMOTE NIX_CONFIG NIX_PATH XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME
    export NIX_STORE_DIR=$FLEET/nix/store NIX_STATE_DIR=$1/var NIX_LOG_DIR=$1/log
    export NIX_CONF_DIR=$1/conf NIX_USER_CONF_FILES=/dev/null HOME=$1/home TMPDIR=$1/tmp
}
