# services.herald.subscriber: this machine follows the signed orders of a fleet.
#
# What the daemon reads is generated from the options, and checked by the daemon's own program when
# the system is built. The units are in subscriber-units.nix.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.herald.subscriber;
  inherit (lib) mkIf optionalAttrs;
  common = import ./common.nix { inherit lib pkgs; };
  inherit (common) toml;
  keys = import ./trust.nix { inherit lib; };

  unsetDropped = lib.filterAttrsRecursive (_: value: value != null);
  credential = name: "/run/credentials/herald-subscriber.service/${name}";

  trustFile = toml.generate "trust.toml" (unsetDropped cfg.trust);

  healthFiles = lib.mapAttrs (
    name: check: toml.generate "${name}.toml" { inherit check; }
  ) cfg.healthChecks;

  healthFolder = pkgs.runCommand "herald-health.d" { } (
    "mkdir $out\n"
    + lib.concatStrings (
      lib.mapAttrsToList (name: file: "ln -s ${file} $out/${name}.toml\n") healthFiles
    )
  );

  # As it is, but for files that are where they belong only on the running machine: a build that could
  # see a token there may all the same not read it.
  checked = toml.generate "checked.toml" (
    unsetDropped cfg.settings
    // {
      trust = "${trustFile}";
      health_folder = "${healthFolder}";
    }
    // optionalAttrs (cfg.enrolment.tokenFile != null) {
      enrol = cfg.settings.enrol // {
        token = "/nonexistent";
      };
    }
  );

  configuration = toml.generate "subscriber.toml" (unsetDropped cfg.settings);

  boot = config.boot.loader;
  loader =
    if boot.systemd-boot.enable then
      "systemd-boot"
    else if boot.grub.enable then
      "grub"
    else
      null;
  kernels =
    if boot.systemd-boot.xbootldrMountPoint != null then
      boot.systemd-boot.xbootldrMountPoint
    else
      boot.efi.efiSysMountPoint;

  # What the subscriber that runs reads of a system before it arms anything.
  about = pkgs.writeText "herald.json" (
    builtins.toJSON {
      state_formats = cfg.package.stateFormats or [ 0 ];
      profiles = lib.attrNames cfg.settings.profiles;
      subscriber = lib.getVersion cfg.package;
      state_version = config.system.stateVersion;
      boot_loader = loader;
    }
  );
in
{
  imports = [
    ./subscriber-options.nix
    ./subscriber-units.nix
  ];

  config = mkIf cfg.enable {
    assertions = keys.assertions cfg.trust ++ [
      {
        assertion = builtins.match "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?" cfg.host != null;
        message = ''
          services.herald.subscriber.host is "${cfg.host}": a host's name in its fleet is made of
          1 to 63 of a-z, 0-9 and -, with no - at either end. Set it, if networking.hostName can't
          be such a name.
        '';
      }
      {
        assertion = cfg.trust.fleet == cfg.fleet;
        message = ''
          services.herald.subscriber.trust is the trust of the fleet "${cfg.trust.fleet}", but
          services.herald.subscriber.fleet is "${cfg.fleet}".
        '';
      }
      {
        assertion = (cfg.login.kind == "password") == (cfg.login.passwordFile != null);
        message = ''
          services.herald.subscriber.login: kind = "password" needs a passwordFile, and no other
          kind has one.
        '';
      }
      {
        assertion = (cfg.tls.certificateFile == null) == (cfg.tls.keyFile == null);
        message = "services.herald.subscriber.tls: set both certificateFile and keyFile, or neither.";
      }
    ];

    services.herald.subscriber.settings = {
      inherit (cfg) fleet host broker;
      # Below /etc, where the daemon finds it in a system that does not run yet.
      trust = "/etc/herald/trust.toml";
      health_folder = "/etc/herald/health.d";
      system = pkgs.stdenv.hostPlatform.system;
      store_dir = builtins.storeDir;
      state_dir = cfg.stateDir;
      inherit (cfg) state;
      control = "/run/herald/control.sock";
      activation_output = cfg.activationOutput;
      login = {
        inherit (cfg.login) kind;
      }
      // optionalAttrs (cfg.login.brokerName != null) { broker_name = cfg.login.brokerName; }
      // optionalAttrs (cfg.login.passwordFile != null) { file = credential "password"; };
      tls =
        optionalAttrs (cfg.tls.caFile != null) { ca = "${cfg.tls.caFile}"; }
        // optionalAttrs (cfg.tls.certificateFile != null) {
          certificate = "${cfg.tls.certificateFile}";
          key = credential "tls-key";
        };
      profiles = lib.mapAttrs (_: unsetDropped) cfg.profiles;
      retention = { inherit (cfg.retention) systems generations; };
    }
    // optionalAttrs (loader == "systemd-boot") { room.boot_folder = lib.mkDefault kernels; }
    // optionalAttrs (cfg.allowedSubstituters != [ ]) {
      allowed_substituters = cfg.allowedSubstituters;
    }
    // optionalAttrs (cfg.enrolment.tokenFile != null) { enrol.token = cfg.enrolment.tokenFile; }
    // optionalAttrs (cfg.maintenanceWindow != null) { window = cfg.maintenanceWindow; }
    // optionalAttrs (cfg.consent != null) { inherit (cfg) consent; }
    // optionalAttrs (cfg.rebootIfRollBackFails != null) {
      reboot.if_roll_back_fails = cfg.rebootIfRollBackFails;
    };

    services.herald.subscriber.credentials =
      optionalAttrs (cfg.login.passwordFile != null) { password = cfg.login.passwordFile; }
      // optionalAttrs (cfg.tls.keyFile != null) { tls-key = cfg.tls.keyFile; };

    services.herald.subscriber.configurationFile = configuration;
    system.checks = common.checks {
      inherit (cfg) package;
      program = "herald-subscriber";
      file = checked;
      # It is asked about the maintenance windows.
      needs = [ config.systemd.package ];
    };

    # It reads these when it starts. A switch leaves it alone; it starts itself anew where its unit is
    # another.
    systemd.services.herald-subscriber.restartTriggers = [
      trustFile
      healthFolder
    ];

    environment.etc = {
      # For people at the machine: `herald-subscriber status` and the like look there.
      "herald/subscriber.toml".source = configuration;
      "herald/trust.toml".source = trustFile;
    }
    // lib.mapAttrs' (
      name: file: lib.nameValuePair "herald/health.d/${name}.toml" { source = file; }
    ) healthFiles;

    environment.systemPackages = [ cfg.package ];

    system.systemBuilderCommands = "cp ${about} $out/herald.json\n";

    nix.settings = mkIf cfg.fsyncStorePaths { fsync-store-paths = lib.mkDefault true; };

    systemd.settings.Manager = mkIf (cfg.hardwareWatchdog != null) {
      RuntimeWatchdogSec = cfg.hardwareWatchdog;
    };
  };
}
