# shellcheck shell=bash
# The machine's parts that are the same in every run: kernel, initrd, and Debian's disk.
#
#   $parts/kernel $parts/initrd   Debian's kernel for virtual machines, and an initrd for it
#   $parts/root.img               the Debian of tests/systemd with more packages, on ext4
#   $parts/efi/                   systemd-boot
#   $parts/grub/                  GRUB, as an EFI program

parts= # the folder

# What the initrd needs of the kernel, beside what each of these needs.
modules=(virtio_pci virtio_blk virtio_net ext4 vfat nls_cp437 nls_ascii efivarfs)
packages=(systemd-boot-tools systemd-boot-efi grub-common grub2-common grub-efi-amd64-bin kmod xz-utils)
# Not installed, only unpacked: their scripts would make an initrd of their own.
downloads=(linux-image-cloud-amd64 busybox-static)
# Nothing that takes time at the boot and is not needed: there are no devices to wait for.
masked=(systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket
    systemd-udevd-kernel.socket systemd-random-seed.service systemd-update-utmp.service
    systemd-remount-fs.service systemd-networkd.service systemd-resolved.service
    systemd-sysusers.service systemd-journal-flush.service systemd-journal-catalog-update.service
    systemd-update-done.service systemd-boot-random-seed.service systemd-hwdb-update.service
    systemd-firstboot.service systemd-machine-id-commit.service ldconfig.service
    systemd-tmpfiles-clean.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
    e2scrub_all.timer fstrim.timer tmp.mount dev-hugepages.mount dev-mqueue.mount
    systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service kmod-static-nodes.service
    systemd-tmpfiles-setup-dev-early.service systemd-modules-load.service systemd-sysctl.service
    systemd-pcrextend.socket systemd-pcrlock.socket systemd-creds.socket systemd-sysext.socket
    proc-sys-fs-binfmt_misc.automount systemd-binfmt.service systemd-initctl.socket
    modprobe@configfs.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@drm.service
    sys-fs-fuse-connections.mount sys-kernel-config.mount run-lock.mount
    sys-kernel-debug.mount sys-kernel-tracing.mount nix-daemon.socket dbus.socket)

# power_parts FOLDER: makes the parts, unless they are there, from the Debian that $image names,
# with the files in $here.
# shellcheck disable=SC2154
power_parts() {
    parts=$1
    mkdir -p "$parts"
    exec 7>"$parts/lock"
    flock 7
    local made_by
    made_by=$(cat "$here/image.sh" "$here"/guest/* "$image/var/lib/dpkg/status" | sha256sum)
    if [ "$(cat "$parts/made-by" 2>/dev/null)" != "$made_by" ]; then
        echo "making a kernel, an initrd and a disk in $parts: a minute, once"
        rm -rf --one-file-system "$parts"/{new,root.img,made-by}
        mkdir -p "$parts"/new/{changes,work,root}
        # shellcheck disable=SC2016 # the inner shell expands them
        unshare --mount -- bash -euc '
            mount -t overlay -o "lowerdir=$1,upperdir=$2/changes,workdir=$2/work" overlay "$2/root"
            mount -t proc proc "$2/root/proc"
            . "$3/image.sh"
            here=$3
            parts=$4
            make_parts "$2/root"
        ' bash "$image" "$parts/new" "$here" "$parts" >"$parts/log" 2>&1 || {
            tail -n 20 "$parts/log"
            skip "the machine's disk can't be made"
        }
        rm -rf --one-file-system "$parts/new"
        echo "$made_by" >"$parts/made-by"
    fi
    exec 7>&-
}

# make_parts ROOT: in a mount namespace of its own, with Debian at ROOT.
make_parts() {
    local root=$1 unit
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    chroot "$root" apt-get update -q
    chroot "$root" apt-get install -y -q --no-install-recommends "${packages[@]}"
    mkdir "$root/unpacked"
    # shellcheck disable=SC2016 # the inner shell expands them
    chroot "$root" sh -euc '
        cd /unpacked
        image=$(apt-cache depends "$1" | sed -n "s/^  Depends: \(linux-image-.*\)/\1/p" | head -n 1)
        shift
        apt-get download "$image" "$@"
        for package in *.deb; do dpkg-deb --extract "$package" .; done
    ' sh "${downloads[@]}"
    make_initrd "$root"
    cp "$root"/unpacked/boot/vmlinuz-* "$parts/kernel"
    mkdir -p "$parts/efi" "$parts/grub"
    cp "$root/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$parts/efi"
    make_grub "$root"
    rm -rf "$root"/unpacked "${root:?}"/boot/* "$root"/usr/share/{doc,man,locale} "$root"/var/lib/apt/lists \
        "$root"/var/cache/apt "$root"/usr/lib/grub "$root"/usr/lib/systemd/boot "$root"/var/log/*
    install "$here/guest/agent" "$root/usr/local/lib/agent"
    install -m 644 "$here"/guest/*.{service,target} "$root/etc/systemd/system"
    for unit in "${masked[@]}"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
    rm -f "$root/etc/fstab"
    umount "$root/proc"
    mke2fs -q -t ext4 -L root -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" "$parts/root.img" 2G
}

make_initrd() {
    local root=$1 initrd=$1/unpacked/initrd version file name
    version=$(basename "$root"/unpacked/usr/lib/modules/*)
    mkdir -p "$initrd"/{bin,modules}
    cp "$(find "$root/unpacked" -path '*bin/busybox' | head -n 1)" "$initrd/bin"
    ln -s busybox "$initrd/bin/sh"
    install "$here/guest/init" "$initrd/init"
    chroot "$root" depmod --basedir /unpacked/usr "$version"
    chroot "$root" modprobe --all --show-depends --dirname /unpacked/usr --set-version "$version" \
        "${modules[@]}" | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' |
        while read -r file; do
            name=$(basename "$file")
            case $name in
            *.xz) xz --decompress --stdout "$root$file" >"$initrd/modules/${name%.xz}" ;;
            *) cp "$root$file" "$initrd/modules" ;;
            esac
            echo "${name%.xz}"
        done >"$initrd/modules/order"
    # shellcheck disable=SC2016 # the inner shell expands it
    chroot "$root" sh -euc 'cd /unpacked/initrd && find . | ../initrd/bin/busybox cpio -o -H newc' |
        gzip >"$parts/initrd"
}

# One program with all that it needs, which reads its menu from the disk that it finds.
make_grub() {
    local root=$1
    mkdir "$root/unpacked/grub"
    cat >"$root/unpacked/grub/early.cfg" <<'CFG'
search --set=root --file /grub/grub.cfg
set prefix=($root)/grub
configfile ($root)/grub/grub.cfg
CFG
    chroot "$root" grub-mkimage -O x86_64-efi -o /unpacked/grub/grubx64.efi -p /grub \
        -c /unpacked/grub/early.cfg part_gpt fat ext2 search search_fs_file configfile normal \
        linux loadenv test echo sleep reboot
    cp "$root/unpacked/grub/grubx64.efi" "$parts/grub"
}
