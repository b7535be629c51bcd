# The options of services.herald.broker.
{ lib, pkgs, ... }:

let
  inherit (lib) mkOption types;
  common = import ./common.nix { inherit lib pkgs; };
  inherit (common) toml;

  listener = types.submodule {
    options = {
      address = mkOption {
        type = common.address;
        example = "[::]:8883";
        description = "An address of this machine with a port. `[::]` is all of them, IPv4 too.";
      };
      transport = mkOption {
        type = types.enum [
          "tcp"
          "tls"
          "websocket"
          "secure-websocket"
        ];
        default = "tls";
        description = "What carries MQTT there.";
      };
      useACMEHost = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "broker.example.org";
        description = ''
          The certificate of `security.acme.certs` that this listener shows. The broker may read it, and
          takes a renewed one without a restart.
        '';
      };
      certificate = common.certificateFile "The certificate with its chain (PEM), where ACME does not bring it.";
      key = common.secretFile {
        description = "The certificate's key (PEM), which the user `herald-broker` can read.";
      };
      clientCA = common.certificateFile "The roots of client certificates (PEM), where these are asked for.";
      clientCertificate = mkOption {
        type = types.enum [
          "none"
          "optional"
          "required"
        ];
        default = "none";
        description = "Whether clients show certificates.";
      };
      path = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/mqtt";
        description = "The path of a WebSocket; `/mqtt` without it.";
      };
      anonymous = mkOption {
        type = types.bool;
        default = false;
        description = "Whether clients need no login. On a loopback address only.";
      };
      plaintext = mkOption {
        type = types.bool;
        default = false;
        description = "Whether passwords may come in the clear from other machines.";
      };
    };
  };

  party =
    what:
    mkOption {
      type = types.attrsOf (types.listOf types.str);
      default = { };
      description = "${what} by their names, each with up to 8 keys that it logs in with, or none.";
    };

  logins = types.submodule {
    freeformType = toml.type;
    options = {
      hosts = party "Hosts" // {
        example = {
          web-1 = [ "web-1:6kpsY+Kcxq+Q1SrSHO2j7bTKyDMoAd0uC8xt5b4WEtI=" ];
        };
      };
      trust = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = lib.literalExpression "./trust.toml";
        description = ''
          The fleet's trust file. With it, hosts also log in by the roster that operators sign
          (`herald host`), and whoever has a token may ask to be let in. What the roster says of a host
          counts over `hosts`.
        '';
      };
      olderTrusts = mkOption {
        type = types.listOf types.path;
        default = [ ];
        description = "Trust files from before, by which entries of the roster are still good.";
      };
      operators = party "Operators";
      rollouts = party "Those who pace releases";
      monitors = party "Monitors";
    };
  };

  limit =
    description:
    mkOption {
      type = types.nullOr types.ints.unsigned;
      default = null;
      inherit description;
    };
in
{
  options.services.herald.broker = {
    enable = lib.mkEnableOption "Herald's broker";

    package = mkOption {
      type = types.package;
      default = pkgs.herald or (pkgs.callPackage ../package.nix { });
      defaultText = lib.literalExpression "pkgs.herald";
      description = "The package with `herald-broker`.";
    };

    names = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "broker.example.org" ];
      description = "The names under which clients know this broker: a login is signed for one of them.";
    };

    listeners = mkOption {
      type = types.listOf listener;
      default = [ ];
      example = [
        {
          address = "[::]:8883";
          useACMEHost = "broker.example.org";
        }
      ];
      description = "Where clients connect.";
    };

    logins = mkOption {
      type = types.attrsOf logins;
      default = { };
      example = {
        home = {
          hosts.web-1 = [ "web-1:6kpsY+Kcxq+Q1SrSHO2j7bTKyDMoAd0uC8xt5b4WEtI=" ];
          operators.alice = [ "alice-login:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=" ];
        };
      };
      description = ''
        Who may log in, by fleet: public keys only (see [access](../access.md)). A change is read while
        sessions go on. Who is taken out is disconnected.
      '';
    };

    loginFiles = mkOption {
      type = types.listOf types.path;
      default = [ ];
      description = "Files of logins that something else writes, one for each fleet. Reload after a change.";
    };

    passwordFile = common.secretFile {
      example = "/run/secrets/herald-passwords";
      description = ''
        The file with what `herald-broker hash-password` printed, for programs that can't sign. It is
        loaded as a credential: restart the broker after a change.
      '';
    };

    limits = {
      connections = limit "Most connections at a time (12,000).";
      connectionsPerAddress = limit "Most connections from one IPv4 address or IPv6 /64 (a quarter of all, 256 at least).";
      payload = limit "Most bytes of a message (32,768).";
      profiles = limit "Most profiles of a host that are kept (16).";
      retained = limit "From this many kept messages on, none of a new topic is taken, but for hosts' own (300,000).";
      keptSessions = limit "Most persistent sessions of a login that is no host's (16).";
      filters = limit "Most filters of a login that is no host's (200,000).";
    };

    stateDir = mkOption {
      type = types.str;
      default = "/var/lib/herald-broker";
      description = "The folder of the store. Stop the broker, or make a snapshot, to back it up.";
    };

    metrics = mkOption {
      type = types.nullOr common.address;
      default = null;
      example = "127.0.0.1:9464";
      description = "The loopback address where Prometheus finds the metrics.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the ports of all listeners that are not on loopback are opened.";
    };

    logFilter = mkOption {
      type = types.str;
      default = "warn,herald=info";
      description = "What is logged (`HERALD_LOG`).";
    };

    settings = mkOption {
      type = types.submodule { freeformType = toml.type; };
      default = { };
      example = {
        slow_after = "30s";
      };
      description = ''
        What else stands in `broker.toml` (see [brokers](../brokers.md)). The other options are
        written here too; `herald-broker check-config` reads the result when the system is built.
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
