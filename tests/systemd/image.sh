# shellcheck shell=bash
# A Debian with systemd and Nix in a folder, made once from Debian's packages. Needs root.

image=       # the folder of the Debian
edition=-net # tells images from those that were made of other packages

# image_make FOLDER: makes a Debian in the folder, unless it is there, and sets image. The packages
# come from where this machine's apt gets its own.
image_make() {
    local folder=$1 suite mirror
    mkdir -p "$folder"
    exec 8>"$folder/lock"
    flock 8
    for suite in ${HERALD_SUITES:-trixie bookworm}; do
        image=$folder/$suite$edition
        [ ! -e "$image" ] || break
        if [ -z "${mirror-}" ]; then
            mirror=$(debian_mirror) || skip "this machine's apt has no Debian mirror (apt-get update?)"
            command -v debootstrap >/dev/null || skip "debootstrap is missing"
        fi
        echo "making a Debian $suite in $image: some minutes, once"
        rm -rf --one-file-system "$image.new"
        if fill_image "$suite" "$mirror" "$image.new" >"$image.log" 2>&1; then
            mv "$image.new" "$image"
            break
        fi
        echo "that failed:"
        tail -n 5 "$image.log"
        image=
    done
    exec 8>&-
    [ -n "$image" ] || skip "no Debian could be had from $mirror"
}

# debian_mirror: prints the address of this machine's Debian mirror.
debian_mirror() {
    command -v apt-get >/dev/null || return 1
    # shellcheck disable=SC2016 # apt expands them
    apt-get indextargets --format '$(ORIGIN)/$(LABEL)/$(COMPONENT) $(REPO_URI)' \
        'Created-By: Packages' | sed -n 's,^Debian/Debian/main ,,p' | grep -m 1 .
}

# fill_image SUITE MIRROR FOLDER. Nix comes second: debootstrap would leave it unconfigured.
fill_image() {
    debootstrap --force-check-gpg --variant=minbase --include=systemd-sysv,dbus,iproute2 \
        "$1" "$3" "$2" || return
    # In a mount namespace of its own, /proc is gone from the folder whatever happens.
    # shellcheck disable=SC2016 # the inner shell expands them
    unshare --mount -- sh -euc '
        mount -t proc proc "$1/proc"
        export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
        chroot "$1" apt-get install -y -q --no-install-recommends nix-bin
        chroot "$1" apt-get clean
    ' sh "$3"
}
