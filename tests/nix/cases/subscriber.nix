# Configurations of the subscriber, good and bad. `has` and `lacks` name texts by file: units, what is
# in /etc, herald.json, and `facts`. `refused` is what refusing it says, in the end.
{ pkgs, ... }:

let
  alice = "6kpsY+Kcxq+Q1SrSHO2j7bTKyDMoAd0uC8xt5b4WEtI=";
  bob = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";

  # A host of the fleet `home`, with what the case says beside that.
  host = more: {
    networking.hostName = "alpha";
    services.herald.subscriber = {
      enable = true;
      broker = "mqtts://broker.example.org";
      fleet = "home";
      trust.release.keys = [ "alice:${alice}" ];
    }
    // more;
  };
  good = has: more: {
    module = host more;
    inherit has;
  };
  bad = refused: more: {
    module = host more;
    inherit refused;
  };

  unit = "units/herald-subscriber.service";
  toml = "etc/herald/subscriber.toml";
in
{
  subscriber = {
    module = host { };
    has = {
      ${unit} = [
        "X-RestartIfChanged=false"
        "Type=notify"
        "StateDirectory=herald"
        "StartLimitIntervalSec=0"
      ];
      ${toml} = [
        ''"host" = "alpha"''
        ''"kind" = "signed"''
        ''"trust" = "/etc/herald/trust.toml"''
      ];
      "units/herald-deadman.service" = [
        "ConditionPathExists=/var/lib/herald/system/dead-man"
        "WantedBy=sysinit.target"
      ];
      "herald.json" = [
        ''"state_formats":[0]''
        ''"profiles":["system"]''
        ''"state_version":"25.11"''
        ''"boot_loader":"grub"''
      ];
      "etc/herald/trust.toml" = [ alice ];
      facts = [ "fsync=1" ];
    };
    lacks = {
      ${unit} = [
        "network-online"
        "LoadCredential"
      ];
      facts = [ "herald-broker" ];
    };
  };

  # It reads both when it starts, and starts anew where its unit is another.
  subscriber-new-trust = {
    module = host { };
    change = {
      unit = "herald-subscriber";
      module.services.herald.subscriber.trust.release.keys = [ "bob:${bob}" ];
      lines = [ "X-Restart-Triggers" ];
    };
  };

  subscriber-new-health-check = {
    module = host { };
    change = {
      unit = "herald-subscriber";
      module.services.herald.subscriber.healthChecks.ssh.tcp = "127.0.0.1:22";
      lines = [ "X-Restart-Triggers" ];
    };
  };

  subscriber-caches =
    good { ${toml} = [ ''"allowed_substituters" = [ "https://c.example.org/a" ]'' ]; }
      {
        allowedSubstituters = [ "https://c.example.org/a" ];
      };

  subscriber-cache-with-settings =
    bad "allowedSubstituters.\"[definition 1-entry 1]\"' is not of type `address of a binary cache"
      {
        allowedSubstituters = [ "https://c.example.org?trusted=1" ];
      };

  subscriber-cache-without-a-host = bad "an address such as https://cache.example.org" {
    allowedSubstituters = [ "https://:" ];
  };

  subscriber-in-a-container = {
    module = {
      imports = [ (host { }) ];
      boot.isContainer = true;
    };
    has."herald.json" = [ ''"boot_loader":null'' ];
  };

  subscriber-two-signers = good { "etc/herald/trust.toml" = [ ''"threshold" = 2'' ]; } {
    trust = {
      release = {
        keys = [
          "alice:${alice}"
          "bob:${bob}"
        ];
        threshold = 2;
      };
    };
  };

  subscriber-beacons = good { "etc/herald/trust.toml" = [ ''"interval" = "5m"'' ]; } {
    trust = {
      release.keys = [ "alice:${alice}" ];
      rollout.keys = [ "conductor:${bob}" ];
      freshness.interval = "5m";
    };
  };

  subscriber-workstation =
    good
      {
        ${toml} = [
          ''"opens" = [ "Sat 02:00" ]''
          ''"deadline" = "8h"''
          ''"if_roll_back_fails" = false''
          ''"generations" = { "last" = 10 }''
        ];
        ${unit} = [ "-libnotify/bin:" ];
        facts = [ "watchdog=30s" ];
      }
      {
        maintenanceWindow = {
          opens = [ "Sat 02:00" ];
          lasts = "2h";
        };
        consent.deadline = "8h";
        retention.generations.last = 10;
        rebootIfRollBackFails = false;
        hardwareWatchdog = "30s";
      };

  subscriber-health-checks =
    good
      {
        "etc/herald/health.d/web.toml" = [ "http://127.0.0.1:8080/ready" ];
        "etc/herald/health.d/ssh.toml" = [ ''"tcp" = "127.0.0.1:22"'' ];
      }
      {
        healthChecks = {
          web.http = "http://127.0.0.1:8080/ready status=200-399";
          ssh.tcp = "127.0.0.1:22";
          nginx.unit = "nginx.service";
          ready.command = [
            "/bin/sh"
            "-c"
            "test -e /run/ready"
          ];
        };
      };

  subscriber-password =
    good
      {
        ${unit} = [
          "LoadCredential=password:/run/secrets/herald"
          "LoadCredentialEncrypted=token:/etc/token.cred"
        ];
        ${toml} = [ ''"file" = "/run/credentials/herald-subscriber.service/password"'' ];
      }
      {
        login = {
          kind = "password";
          passwordFile = "/run/secrets/herald";
        };
        credentials.token = "/etc/token.cred";
      };

  subscriber-enrolment = good { ${toml} = [ ''"token" = "/var/lib/secrets/token"'' ]; } {
    enrolment.tokenFile = "/var/lib/secrets/token";
  };

  # This is there where the system is built, and no token.
  subscriber-token-not-read-while-building = good { ${toml} = [ ''"token" = "/etc/passwd"'' ]; } {
    enrolment.tokenFile = "/etc/passwd";
  };

  subscriber-token-in-the-store =
    bad "enrolment.tokenFile' is not of type `null or absolute path not in the Nix store"
      {
        enrolment.tokenFile = pkgs.writeText "token" "hush";
      };

  subscriber-certificate =
    good
      {
        ${unit} = [ "LoadCredential=tls-key:/run/secrets/key.pem" ];
        ${toml} = [ ''"key" = "/run/credentials/herald-subscriber.service/tls-key"'' ];
      }
      {
        login.kind = "none";
        tls = {
          certificateFile = "/etc/herald/host.pem";
          keyFile = "/run/secrets/key.pem";
        };
      };

  # From the store, in each of the ways to say so.
  subscriber-authorities = good { ${toml} = [ "-authorities.pem" ]; } {
    tls.caFile = pkgs.writeText "authorities.pem" "";
  };

  subscriber-authorities-of-the-configuration = good { ${toml} = [ "-subscriber.nix" ]; } {
    tls.caFile = ./subscriber.nix;
  };

  subscriber-ephemeral-root =
    good
      {
        ${unit} = [
          "ReadWritePaths=/nix/var/herald"
          "RequiresMountsFor=/nix/var/herald"
        ];
        ${toml} = [ ''"control" = "/run/herald/control.sock"'' ];
        "units/herald-deadman.service" = [ "ConditionPathExists=/nix/var/herald/system/dead-man" ];
        facts = [ "tmpfiles=d /nix/var/herald 0700" ];
      }
      {
        stateDir = "/nix/var/herald";
      };

  subscriber-own-settings =
    good
      {
        ${toml} = [
          ''"store" = "1GiB"''
          ''"kind" = "systemd-boot"''
          ''"session" = "persistent"''
        ];
      }
      {
        settings = {
          room.store = "1GiB";
          reboot.boot_loader.kind = "systemd-boot";
          session = "persistent";
        };
      };

  subscriber-systemd-boot = {
    module = {
      imports = [ (host { }) ];
      boot.loader = {
        systemd-boot.enable = true;
        efi.efiSysMountPoint = "/efi";
      };
    };
    has = {
      ${toml} = [ ''"boot_folder" = "/efi"'' ];
      "herald.json" = [ ''"boot_loader":"systemd-boot"'' ];
    };
  };

  subscriber-old-nix = {
    module = {
      imports = [ (host { }) ];
      nix.package = pkgs.nix // {
        version = "2.24.1";
      };
    };
    has.facts = [ "fsync=no" ];
  };

  subscriber-threshold-0 = bad "trust.release.threshold is 0: nobody's signature" {
    trust.release = {
      keys = [ "alice:${alice}" ];
      threshold = 0;
    };
  };

  subscriber-threshold-too-high = bad "threshold is 2, but there are only 1 keys" {
    trust.release = {
      keys = [ "alice:${alice}" ];
      threshold = 2;
    };
  };

  subscriber-key-twice = bad "the same key more than once, under whatever name" {
    trust.release = {
      keys = [
        "alice:${alice}"
        "alicia:${alice}"
      ];
      threshold = 2;
    };
  };

  subscriber-key-in-two-roles = bad "the same key more than once, under whatever name" {
    trust.release.keys = [ "alice:${alice}" ];
    trust.rollout.keys = [ "conductor:${alice}" ];
  };

  subscriber-no-key = bad "trust.release.keys is empty" { trust = { }; };

  subscriber-not-a-key = bad "the key after the name is not base64 of 32 bytes" {
    trust.release.keys = [ "alice:short" ];
  };

  subscriber-beacons-by-nobody = bad "nobody could sign beacons" {
    trust.release.keys = [ "alice:${alice}" ];
    trust.freshness.interval = "5m";
  };

  subscriber-other-fleet = bad ''is the trust of the fleet "work"'' {
    trust.fleet = "work";
    trust.release.keys = [ "alice:${alice}" ];
  };

  subscriber-host-name = bad ''host is "Alpha_1": a host's name'' { host = "Alpha_1"; };

  subscriber-no-fleet = {
    module.services.herald.subscriber = {
      enable = true;
      broker = "mqtts://broker.example.org";
    };
    refused = "services.herald.subscriber.fleet' was accessed but has no value defined";
  };

  subscriber-broker-without-scheme = bad "broker' is not of type `address of a broker" {
    broker = "broker.example.org";
  };

  subscriber-misspelt-option = bad "maintenanceWindows' does not exist" {
    maintenanceWindows = { };
  };

  subscriber-misspelt-setting = bad "unknown field `rooom`" { settings.rooom.store = "1GiB"; };

  subscriber-bad-window = bad "Failed to parse calendar" {
    maintenanceWindow = {
      opens = [ "Someday 02:00" ];
      lasts = "2h";
    };
  };

  subscriber-bad-health-check = bad "for TLS, let a command check run curl" {
    healthChecks.web.http = "https://example.org";
  };

  subscriber-two-checks-in-one = bad "healthChecks.web' is not of type `attribute-tagged union" {
    healthChecks.web = {
      tcp = "127.0.0.1:22";
      unit = "nginx.service";
    };
  };

  subscriber-one-system-kept = bad "retention.systems' is not of type `integer between 2 and 16" {
    retention.systems = 1;
  };

  subscriber-password-in-the-open = bad "is not sent to mqtt://broker" {
    broker = "mqtt://broker.example.org";
    login = {
      kind = "password";
      passwordFile = "/run/secrets/herald";
    };
  };

  subscriber-no-password = bad ''kind = "password" needs a passwordFile'' {
    login.kind = "password";
  };

  subscriber-password-in-the-store =
    bad "login.passwordFile' is not of type `null or absolute path not in the Nix store"
      {
        login = {
          kind = "password";
          passwordFile = pkgs.writeText "password" "hush";
        };
      };

  subscriber-half-a-certificate = bad "set both certificateFile and keyFile" {
    tls.certificateFile = "/etc/herald/host.pem";
  };
}
