# The options of services.herald.subscriber.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.herald.subscriber;
  inherit (lib) mkOption types;
  common = import ./common.nix { inherit lib pkgs; };
  inherit (common) toml;

  role = types.submodule {
    options = {
      keys = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "alice:6kpsY+Kcxq+Q1SrSHO2j7bTKyDMoAd0uC8xt5b4WEtI=" ];
        description = "Ed25519 public keys, as `herald key generate` prints them.";
      };
      threshold = mkOption {
        type = types.ints.unsigned;
        default = 1;
        description = "How many different ones of the keys must have signed.";
      };
    };
  };

  profile = types.submodule {
    options = {
      profile = mkOption {
        type = types.str;
        default = "/nix/var/nix/profiles/system";
        description = "The Nix profile.";
      };
      current = mkOption {
        type = types.str;
        default = "/run/current-system";
        description = "The link to what runs.";
      };
      booted = mkOption {
        type = types.str;
        default = "/run/booted-system";
        description = "The link to what was booted.";
      };
      boot_default = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "The link to what the next boot takes, where there is one.";
      };
    };
  };

  window = types.submodule {
    options = {
      opens = mkOption {
        type = types.nonEmptyListOf types.str;
        example = [ "Sat 02:00" ];
        description = "Calendar expressions (systemd.time(7)), in the host's own time.";
      };
      lasts = mkOption {
        type = types.str;
        example = "2h";
        description = "How long a window is open.";
      };
    };
  };

  check = types.attrTag {
    http = mkOption {
      type = types.str;
      example = "http://127.0.0.1:8080/ready status=200-399 within=5s";
      description = "A GET to this URL is answered as it should be.";
    };
    unit = mkOption {
      type = types.str;
      example = "nginx.service";
      description = "systemd calls this unit active.";
    };
    tcp = mkOption {
      type = common.address;
      example = "127.0.0.1:22";
      description = "A connection to this address is accepted.";
    };
    command = mkOption {
      type = types.nonEmptyListOf types.str;
      example = lib.literalExpression ''[ "''${pkgs.curl}/bin/curl" "--fail" "https://example.org" ]'';
      description = ''
        This program exits with 0. It runs in the subscriber's own sandbox: it writes nowhere but
        below `/tmp` and gains no privileges. What needs more is a service of its own, and the check
        names the unit.
      '';
    };
  };

  positive =
    name:
    types.submodule {
      options.${name} = mkOption {
        type = types.ints.positive;
        description = "How many.";
      };
    };
in
{
  options.services.herald.subscriber = {
    enable = lib.mkEnableOption "Herald's subscriber, which follows the signed orders of a fleet";

    package = mkOption {
      type = types.package;
      default = pkgs.herald or (pkgs.callPackage ../package.nix { });
      defaultText = lib.literalExpression "pkgs.herald";
      description = "The package with `herald-subscriber`.";
    };

    broker = mkOption {
      type = types.strMatching "(mqtts?|wss?)://.+" // {
        description = "address of a broker, as in mqtts://broker.example.org";
      };
      example = "mqtts://broker.example.org";
      description = ''
        Where the broker is: `mqtts://host[:port]`, `wss://host[:port][/path]`, or without TLS `mqtt://`
        and `ws://`. It is not waited for: the daemon is ready as soon as it has read its state.
      '';
    };

    fleet = mkOption {
      type = types.strMatching "[a-z0-9_-]{1,63}" // {
        description = "name of a fleet, of 1 to 63 of a-z, 0-9, _ and -";
      };
      example = "home";
      description = "The fleet's name.";
    };

    host = mkOption {
      type = types.str;
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      description = "The host's name in the fleet: 1 to 63 of a-z, 0-9 and -, with no - at either end.";
    };

    trust = mkOption {
      description = ''
        Whom this host takes orders from. Operators need the same beside their fleet file, so keep it
        in one file: `trust = lib.importTOML ./trust.toml;`.
      '';
      example = lib.literalExpression "lib.importTOML ./trust.toml";
      type = types.submodule {
        options = {
          fleet = mkOption {
            type = types.str;
            default = cfg.fleet;
            defaultText = lib.literalExpression "config.services.herald.subscriber.fleet";
            description = "Whose trust this is.";
          };
          release = mkOption {
            type = role;
            default = { };
            description = "Who makes releases.";
          };
          rollout = mkOption {
            type = types.nullOr role;
            default = null;
            description = "Who paces releases and sends beacons; can author none.";
          };
          freshness = mkOption {
            type = types.nullOr (
              types.submodule {
                options.interval = mkOption {
                  type = types.str;
                  example = "5m";
                  description = "How often there is a beacon. A host that missed two takes no new order.";
                };
              }
            );
            default = null;
            description = "Whether orders are taken only while beacons come.";
          };
        };
      };
    };

    login = {
      kind = mkOption {
        type = types.enum [
          "signed"
          "password"
          "none"
        ];
        default = "signed";
        description = ''
          How the host says to the broker who it is: by tokens that it signs with its own key (as
          `herald-broker` takes them), by a password, or not at all but by a TLS certificate.
        '';
      };
      brokerName = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "The broker's name for itself (its `names`), where that is not its host.";
      };
      passwordFile = common.secretFile {
        example = "/run/secrets/herald-password";
        description = "The file with the password, for `kind = \"password\"`. It is loaded as a credential.";
      };
    };

    enrolment.tokenFile = common.secretFile {
      example = "/var/lib/secrets/herald-token";
      description = ''
        The file with a one-time token (`herald host token`), by which the host asks to be let into the
        fleet with the key that it makes. It may be gone once it was used, and so is no credential of the
        unit, which would not start without it. Mode 0400, outside of the store.
      '';
    };

    tls = {
      caFile = common.certificateFile "The authorities that may name brokers (PEM), in place of the system's.";
      certificateFile = common.certificateFile "The host's certificate with its chain (PEM), for brokers that ask for one.";
      keyFile = common.secretFile {
        description = "The certificate's key (PEM). It is loaded as a credential.";
      };
    };

    credentials = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        "nomad-token" = "/run/secrets/nomad-token";
      };
      description = ''
        Files that the subscriber and the commands of its health checks find by these names in
        `$CREDENTIALS_DIRECTORY` (`LoadCredential=` in systemd.exec(5)). A file whose name ends with
        `.cred` is loaded by `LoadCredentialEncrypted=`.
      '';
    };

    profiles = mkOption {
      type = types.attrsOf profile;
      default = {
        system = { };
      };
      description = "The profiles that releases may name, by their names.";
    };

    healthChecks = mkOption {
      type = types.attrsOf check;
      default = { };
      example = {
        web.http = "http://127.0.0.1:8080/ready";
        ssh.tcp = "127.0.0.1:22";
      };
      description = ''
        The host's own health checks, each of one kind, in `/etc/herald/health.d`. A system is confirmed
        once all of its own have held, beside those that the release asks for.
      '';
    };

    allowedSubstituters = mkOption {
      type = types.listOf (
        types.strMatching "(https?|s3|file)://[^?@]*[^?@/]"
        // {
          description = "address of a binary cache, as in https://cache.example.org, without settings or a slash at the end";
        }
      );
      default = [ ];
      example = [ "https://cache.example.org" ];
      description = ''
        The binary caches that releases may name (`herald publish --substituter`), with what is in folders
        below them. They are asked beside those of `nix.settings.substituters`, which need not be here.
      '';
    };

    path = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.curl ]";
      description = "Packages whose programs the commands of health checks find, those of releases too.";
    };

    maintenanceWindow = mkOption {
      type = types.nullOr window;
      default = null;
      example = {
        opens = [
          "Sat 02:00"
          "Wed *-*-1..7 22:30"
        ];
        lasts = "2h";
      };
      description = "When this host may be changed; at any time without it. Fetching goes on outside.";
    };

    consent = mkOption {
      type = types.nullOr (
        types.submodule {
          options.deadline = mkOption {
            type = types.str;
            example = "8h";
            description = "After which time it goes on without an answer.";
          };
        }
      );
      default = null;
      example = {
        deadline = "8h";
      };
      description = "Whether whoever is logged in is asked before anything is activated.";
    };

    retention = {
      systems = mkOption {
        type = types.ints.between 2 16;
        default = 4;
        description = "How many systems that were confirmed here are kept from the garbage collector.";
      };
      generations = mkOption {
        type = types.oneOf [
          (types.enum [ "all" ])
          (positive "last")
          (positive "days")
        ];
        default = "all";
        example = {
          last = 10;
        };
        description = "Which generations that Herald made stay in the boot menu.";
      };
    };

    state = mkOption {
      type = types.enum [
        "durable"
        "ephemeral"
        "durable-unchecked"
      ];
      default = "durable";
      description = ''
        Whether the state directory outlasts a boot. `ephemeral` is for machines that are made anew
        with each boot: they take orders only after a beacon. `durable-unchecked` is for an overlay that
        does outlast a boot.
      '';
    };

    stateDir = mkOption {
      type = types.str;
      default = "/var/lib/herald";
      example = "/nix/var/herald";
      description = ''
        Where the host keeps its key and what it remembers. With a root that is gone at each boot, and
        nothing that brings `/var/lib/herald` back, use `/nix/var/herald`: the store's disk stays.
      '';
    };

    activationOutput = mkOption {
      type = types.enum [
        "published"
        "local"
      ];
      default = "published";
      description = ''
        Whether the fleet is told what activations print. Whoever may read the host's topic of logs
        reads it; with `local` nothing of it leaves the host but the last lines in a report of a failure.
      '';
    };

    rebootIfRollBackFails = mkOption {
      type = types.nullOr types.bool;
      default = null;
      description = ''
        Whether a roll back that fails, or does not bring back a connection that was there, restarts the
        machine, once. By default it does. On a workstation set it to false: whoever sits there can look.
      '';
    };

    hardwareWatchdog = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "30s";
      description = ''
        After which time the machine's watchdog restarts it when systemd does not feed it any more
        (`RuntimeWatchdogSec=`): nothing else brings back a kernel that hangs. The machine needs one.
      '';
    };

    fsyncStorePaths = mkOption {
      type = types.bool;
      default =
        config.nix.package.pname or "" == "nix" && lib.versionAtLeast config.nix.package.version "2.25";
      defaultText = lib.literalMD "true where the host's Nix knows the setting (2.25)";
      description = ''
        Whether Nix writes store paths to the disk before it registers them. Without it the subscriber
        reads every byte of what was being fetched when the power went.
      '';
    };

    logFilter = mkOption {
      type = types.str;
      default = "info";
      example = "debug";
      description = "What is logged (`HERALD_LOG`).";
    };

    settings = mkOption {
      type = types.submodule { freeformType = toml.type; };
      default = { };
      example = {
        room.store = "1GiB";
        reboot.boot_loader.kind = "systemd-boot";
      };
      description = ''
        What else stands in `subscriber.toml` (see [hosts](../hosts.md)). The other options are written
        here too; `herald-subscriber check-config` reads the result when the system is built.
      '';
    };

    configurationFile = mkOption {
      type = types.path;
      internal = true;
      readOnly = true;
      description = "The configuration, which is checked when the system is built.";
    };
  };
}
