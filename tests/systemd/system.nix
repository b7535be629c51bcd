# A small system for a machine with a real systemd: what a NixOS one has that matters to an
# activation, with units that systemd runs. The quickstart's system is the simple one.
#
# It needs no nixpkgs: every builder is /bin/sh with the caller's PATH, so `sandbox = false`.
{
  host, # the machine's name
  label, # the version, as text
  subscriber, # the subscriber's program, an absolute path
  configuration, # the subscriber's configuration but for the trust file, an absolute path
  trust, # the trust file, an absolute path
  cache, # the folder of the binary cache
  address, # the machine's address and prefix length
  activation ? "good", # good | fails | late-fail | incompatible: see switch-to-configuration
  hook ? "", # shell text that activating runs, in the new system
  web ? "runs", # runs | fails | fails-later | absent: what web.service does
  extra ? "", # the name of one more unit
  broker ? "", # the broker's program, where this host runs it
  brokerConfiguration ? "", # its configuration
  packages ? "3", # how many packages the system holds, beside what every system holds
  systemd ? "1", # another version makes a switch re-execute systemd
  kernel ? "6.12", # another version makes the host need a reboot
  boots ? "yes", # yes | fails | hangs: what booting it comes to
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

  file = name: text: builtins.toFile name (text + "\n");

  from =
    name: path:
    builtins.path {
      inherit name;
      path = /. + path;
    };

  # Each package refers to one before it, as a tree.
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

  subscriberConfiguration = file "subscriber.toml" ''
    trust = "${from "trust.toml" trust}"
    ${builtins.readFile (/. + configuration)}'';

  # A unit is restarted where its text changes: this one's with every version.
  webUnit = file "web.service" ''
    [Unit]
    Description=Web server ${label}
    [Service]
    Type=${if web == "fails" then "oneshot" else "simple"}
    ExecStart=/bin/sh -c '${
      {
        runs = "echo ${label} >/run/web; exec sleep infinity";
        fails = "exit 1";
        fails-later = "sleep 5; exit 1";
        absent = "";
      }
      .${web}
    }'
  '';

  networkUnit = file "network.service" ''
    [Unit]
    Description=Address of the machine
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=/bin/sh -ec 'ip link set host0 up; ip address add ${address} dev host0'
    ExecStop=/bin/sh -ec 'ip address flush dev host0'
    X-StopIfChanged=false
  '';

  # The units that the NixOS modules generate (tests/nix/units), with what they name of packages found
  # where Debian has it.
  generated =
    name: places: more:
    let
      text = builtins.readFile (../nix/units + "/${name}");
      named = builtins.filter builtins.isList (builtins.split "(@[A-Za-z0-9._-]+@)" text);
      others = map builtins.head named;
    in
    file name (
      builtins.replaceStrings (builtins.attrNames places ++ others) (
        builtins.attrValues places ++ map (_: "/usr") others
      ) text
      + more
    );

  subscriberUnit = generated "herald-subscriber.service" {
    "@herald@/bin/herald-subscriber" = "${from "herald-subscriber" subscriber}";
    "@subscriber.toml@" = subscriberConfiguration;
  } "";
  deadManUnit = generated "herald-deadman.service" { } "";
  # Restarted with every version, as its text is another.
  brokerUnit = generated "herald-broker.service" {
    "@herald@/bin/herald-broker" = "${from "herald-broker" broker}";
    "@broker.toml@" = "${from "broker.toml" brokerConfiguration}";
  } "# ${label}";

  # What differs here: the store is in a folder below /tmp, of which a unit has its own.
  place = file "place.conf" ''
    [Service]
    Environment=NIX_STORE_DIR=${builtins.storeDir} NIX_STATE_DIR=/nix/var/nix NIX_CONF_DIR=/etc/nix
    BindPaths=${builtins.storeDir}
    BindReadOnlyPaths=${cache}
  '';
  brokerPlace = file "place.conf" ''
    [Unit]
    After=network.service
    [Service]
    BindReadOnlyPaths=${builtins.storeDir}
  '';

  steadyUnit = file "steady.service" "[Service]\nExecStart=/bin/sleep infinity";
  extraUnit = file "extra.service" "[Service]\nExecStart=/bin/sleep infinity";

  units = run "system-units" ''
    wants=$out/multi-user.target.wants
    mkdir -p $wants
    unit() {
      ln -s $1 $out/$2
      ln -s ../$2 $wants/$2
    }
    unit ${networkUnit} network.service
    unit ${subscriberUnit} herald-subscriber.service
    mkdir $out/herald-subscriber.service.d
    ln -s ${place} $out/herald-subscriber.service.d/place.conf
    unit ${steadyUnit} steady.service
    ln -s ${deadManUnit} $out/herald-deadman.service
    mkdir $out/sysinit.target.wants
    ln -s ../herald-deadman.service $out/sysinit.target.wants
    ${if web == "absent" then "" else "unit ${webUnit} web.service"}
    ${if extra == "" then "" else "unit ${extraUnit} ${extra}"}
    ${
      if broker == "" then
        ""
      else
        ''
          unit ${brokerUnit} herald-broker.service
          mkdir $out/herald-broker.service.d
          ln -s ${brokerPlace} $out/herald-broker.service.d/place.conf
        ''
    }
  '';

  etc = run "etc" ''
    mkdir -p $out/etc/systemd
    ln -s ${units} $out/etc/systemd/system
    printf 'ID=nixos\nPRETTY_NAME="NixOS %s (test)"\n' ${label} >$out/etc/os-release
  '';

  activate = from "activate" (toString ./activate);
  init = from "init" (toString ./init);
  switch = from "switch-to-configuration" (toString ./switch-to-configuration);
  hookFile = file "hook" hook;

in
run "nixos-system-${host}-${label}" ''
  mkdir -p $out/bin
  ln -s ${sw} $out/sw
  ln -s ${etc}/etc $out/etc
  echo ${if activation == "incompatible" then "2" else "1"} >$out/init-interface-version
  echo -n ${systemd} >$out/systemd
  ln -s ${file "linux-${kernel}" "kernel ${kernel}"} $out/kernel
  echo -n ${builtins.currentSystem} >$out/system
  echo -n ${label} >$out/nixos-version
  echo '{"state_formats":[0]}' >$out/herald.json

  # As in NixOS, what the system runs of its own accord are wrappers that say who they are.
  wrapper() {
    printf '#!/bin/sh\nexport TOPLEVEL=%s ACTIVATION=%s HOOK=%s BOOTS=%s\nexec %s "$@"\n' \
      $out ${activation} ${hookFile} ${boots} $1 >$out/$2
    chmod +x $out/$2
  }
  wrapper ${activate} activate
  wrapper ${init} init
  wrapper ${switch} bin/switch-to-configuration
''
