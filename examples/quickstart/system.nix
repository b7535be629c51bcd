# A system closure with the shape of a NixOS one, small enough to read and quick enough for tests.
#
#   nix-build system.nix --no-out-link --argstr host alpha --argstr root /tmp/x/root --argstr label 1
#
# It needs no nixpkgs: every builder is /bin/sh with the caller's PATH, so `sandbox = false`.
{
  host, # the machine's name
  root, # an absolute folder that plays the machine's `/`
  label, # the version, as text
  activation ? "good", # good | fails | hangs | waits | late-fail | units: see switch-to-configuration.sh
  hook ? "", # shell text that activating runs, in the new system
  healthy ? "yes", # yes | no: what bin/healthy says
  packages ? "3", # how many packages the system holds, beside what every system holds
  kernel ? "6.12", # another version makes the host need a reboot
}:

let
  run =
    name: script:
    derivation {
      inherit name;
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [
        "-euc"
        script
      ];
      PATH = builtins.getEnv "PATH";
    };

  # A file that Nix writes while evaluating, without a build: 3,000 of them take a second.
  file = name: text: builtins.toFile name (text + "\n");

  quote = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] text}'";

  # Each package refers to one before it, as a tree: a chain could only be fetched one by one.
  all = builtins.genList (
    n:
    file "package-${toString n}" (
      "package ${toString n}" + (if n == 0 then "" else " needs ${builtins.elemAt all (n / 2)}")
    )
  ) (builtins.fromJSON (toString packages));

  # By a file: thousands of paths are more than one environment variable can hold.
  sw = run "system-path" ''
    mkdir -p $out/share
    cp ${file "packages" (builtins.concatStringsSep "\n" all)} $out/share/packages
  '';

  # One unit changes with every version, so that a switch has something to restart; one never does.
  units = run "system-units" ''
    mkdir $out
    cat >$out/web.service <<END
    [Service]
    ExecStart=${sw}/bin/web --version ${label}
    END
    ln -s ${file "sshd.service" "[Service]\nExecStart=/bin/sshd -D"} $out/sshd.service
  '';

  etc = run "etc" ''
    mkdir -p $out/etc/systemd
    ln -s ${units} $out/etc/systemd/system
    cat >$out/etc/os-release <<END
    ID=nixos
    PRETTY_NAME="NixOS ${label} (quickstart)"
    END
    echo ${host} >$out/etc/hostname
  '';

  switch = builtins.path {
    name = "switch-to-configuration";
    path = ./switch-to-configuration.sh;
  };
in

assert builtins.elem activation [
  "good"
  "fails"
  "hangs"
  "waits"
  "late-fail"
  "units"
];
assert builtins.elem healthy [
  "yes"
  "no"
];

run "nixos-system-${host}-${label}" ''
  mkdir -p $out/bin
  ln -s ${sw} $out/sw
  ln -s ${etc}/etc $out/etc
  ln -s ${file "linux-${kernel}" "kernel ${kernel}"} $out/kernel
  ln -s ${file "initrd-${kernel}" "initrd for ${kernel}"} $out/initrd
  ln -s ${file "kernel-modules-${kernel}" "modules for ${kernel}"} $out/kernel-modules
  echo -n "quiet" >$out/kernel-params
  echo -n ${builtins.currentSystem} >$out/system
  echo -n ${label} >$out/nixos-version
  echo '{"state_formats":[0]}' >$out/herald.json

  # As in NixOS, the system's own switch program is a wrapper that tells the shared one who it is.
  cat >$out/bin/switch-to-configuration <<END
  #!/bin/sh
  export TOPLEVEL=$out ROOT=${quote root} ACTIVATION=${activation} HOOK=${file "hook" hook}
  exec ${switch} "\$@"
  END

  cat >$out/bin/healthy <<END
  #!/bin/sh
  ${if healthy == "yes" then "exit 0" else "echo 'web.service answers 500' >&2; exit 1"}
  END
  chmod +x $out/bin/*
''
