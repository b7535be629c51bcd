# Configurations of the broker, good and bad; see subscriber.nix.
{ lib, pkgs, ... }:

let
  alice = "alice-login:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";
  web-2 = "web-2:4O8vxUxl7WbLtI/EAvhMJBhUaXUbmoj3DDKfAgJJrJM=";
  web = "web-1:6kpsY+Kcxq+Q1SrSHO2j7bTKyDMoAd0uC8xt5b4WEtI=";

  broker = more: {
    services.herald.broker = {
      enable = true;
      names = [ "broker.example.org" ];
      logins.home = {
        hosts.web-1 = [ web ];
        operators.alice = [ alice ];
        rollouts.conductor = [ ];
        monitors.grafana = [ ];
      };
    }
    // more;
  };
  plain = {
    address = "192.0.2.1:1883";
    transport = "tcp";
    plaintext = true;
  };
  tls = {
    address = "[::]:8883";
    certificate = "/etc/broker.pem";
    key = "/run/secrets/broker.key";
  };
  trust =
    fleet:
    pkgs.writeText "trust.toml" ''
      fleet = "${fleet}"
      [release]
      threshold = 1
      keys = ["operator:6kpsY+Kcxq+Q1SrSHO2j7bTKyDMoAd0uC8xt5b4WEtI="]
    '';
  bad = refused: more: {
    module = broker more;
    inherit refused;
  };

  unit = "units/herald-broker.service";
in
{
  broker = {
    module = broker { listeners = [ plain ]; };
    has = {
      ${unit} = [
        "X-StopIfChanged=false"
        "X-Reload-Triggers="
        "ExecReload="
        "User=herald-broker"
        "StateDirectory=herald-broker"
        "LimitNOFILE=13024"
        "PrivateUsers=true"
      ];
      "etc/herald-broker/home.toml" = [
        ''"fleet" = "home"''
        alice
        web
        ''"grafana" = [  ]''
      ];
      facts = [
        "users=herald-broker"
        "groups=herald-broker"
      ];
    };
    lacks = {
      ${unit} = [
        "network-online"
        "LoadCredential"
      ];
      facts = [ "1883" ];
    };
  };

  broker-all-listeners = {
    module = {
      imports = [
        (broker {
          openFirewall = true;
          metrics = "127.0.0.1:9464";
          passwordFile = "/run/secrets/passwords";
          listeners = [
            {
              address = "127.0.0.1:1884";
              transport = "tcp";
              anonymous = true;
            }
            {
              address = "[::]:8883";
              useACMEHost = "broker.example.org";
            }
            {
              address = "[::]:443";
              transport = "secure-websocket";
              useACMEHost = "broker.example.org";
              path = "/";
            }
            (
              tls
              // {
                address = "[::]:8884";
                clientCA = "/etc/clients.pem";
                clientCertificate = "required";
              }
            )
          ];
        })
      ];
      security.acme = {
        acceptTerms = true;
        certs."broker.example.org".webroot = "/var/lib/acme/challenges";
      };
    };
    has = {
      ${unit} = [
        "LoadCredential=passwords:/run/secrets/passwords"
        "SupplementaryGroups=acme"
        "AmbientCapabilities=CAP_NET_BIND_SERVICE"
        "PrivateUsers=false"
        "Wants=acme-broker.example.org.service"
      ];
      "broker.toml" = [
        ''"passwords" = "/run/credentials/herald-broker.service/passwords"''
        ''"certificate" = "/var/lib/acme/broker.example.org/fullchain.pem"''
        ''"client_ca" = "/etc/clients.pem"''
      ];
      facts = [
        "ports=443 8883 8884"
        "reloads=herald-broker.service"
      ];
    };
  };

  broker-limits = {
    module = broker {
      listeners = [ tls ];
      stateDir = "/srv/herald";
      limits = {
        connections = 40000;
        connectionsPerAddress = 40000;
        retained = 1000000;
      };
      settings.slow_after = "30s";
    };
    has = {
      ${unit} = [
        "LimitNOFILE=41024"
        "ReadWritePaths=/srv/herald"
      ];
      facts = [ "tmpfiles=d /srv/herald 0700 herald-broker" ];
    };
    lacks.${unit} = [ "StateDirectory=" ];
  };

  broker-roster = {
    module = broker {
      listeners = [ plain ];
      logins.home = {
        trust = trust "home";
        olderTrusts = [ (trust "home") ];
        operators.alice = [ alice ];
      };
    };
    has."etc/herald-broker/home.toml" = [
      "-trust.toml"
      ''"older_trusts" = [ "''
    ];
  };

  broker-other-fleets-roster = bad "it is for the fleet work, and the logins are of home" {
    listeners = [ plain ];
    logins.home.trust = trust "work";
  };

  broker-and-subscriber = {
    module = {
      imports = [ (broker { listeners = [ plain ]; }) ];
      networking.hostName = "hub";
      services.herald.subscriber = {
        enable = true;
        broker = "mqtt://192.0.2.1";
        fleet = "home";
        trust.release.keys = [ web ];
        login.brokerName = "broker.example.org";
      };
    };
    has = {
      ${unit} = [ "herald-broker --config" ];
      "units/herald-subscriber.service" = [ "herald-subscriber run --config" ];
    };
  };

  # Sessions go on while logins change, and end only with what a restart takes.
  broker-new-login = {
    module = broker { listeners = [ plain ]; };
    change = {
      unit = "herald-broker";
      module.services.herald.broker.logins.home.operators.bob = [ web-2 ];
      lines = [ "X-Reload-Triggers" ];
    };
  };

  broker-other-limit = {
    module = broker { listeners = [ plain ]; };
    change = {
      unit = "herald-broker";
      module.services.herald.broker.limits.connections = 40000;
      lines = [
        "ExecStart"
        "LimitNOFILE"
      ];
    };
  };

  # What others say of the unit is added, or overrides what the module says.
  broker-unit-of-others = {
    module =
      { lib, ... }:
      {
        imports = [ (broker { listeners = [ plain ]; }) ];
        systemd.services.herald-broker = {
          after = [ "network-online.target" ];
          serviceConfig = {
            SystemCallFilter = "@pkey";
            TimeoutStopSec = lib.mkForce "5s";
          };
        };
      };
    has.${unit} = [
      "network-online.target"
      "SystemCallFilter=@pkey"
      "SystemCallFilter=@system-service"
      "TimeoutStopSec=5s"
    ];
  };

  # A certificate may come with the configuration, as its key can't.
  broker-certificate-in-the-store = {
    module = broker { listeners = [ (tls // { certificate = pkgs.writeText "broker.pem" ""; }) ]; };
    has."broker.toml" = [ "-broker.pem" ];
  };

  broker-roots-that-are-none = bad "-broker.nix holds no certificate" {
    listeners = [
      (
        tls
        // {
          clientCA = ./broker.nix;
          clientCertificate = "optional";
        }
      )
    ];
  };

  broker-acme-without-terms = {
    module = {
      imports = [
        (broker {
          listeners = [
            {
              address = "[::]:8883";
              useACMEHost = "broker.example.org";
            }
          ];
        })
      ];
      security.acme.certs."broker.example.org".webroot = "/var/lib/acme/challenges";
    };
    refused = "security.acme.acceptTerms is not set";
  };

  broker-state-nowhere = bad "stateDir is \"herald\": it must be an absolute path" {
    listeners = [ plain ];
    stateDir = "herald";
  };

  broker-metrics-without-port = bad "metrics' is not of type `null or address and port" {
    listeners = [ plain ];
    metrics = "localhost";
  };

  broker-no-listener = bad "listeners is empty: nobody could connect" { };

  broker-no-logins = bad "nobody could log in" {
    listeners = [ plain ];
    logins = lib.mkForce { };
  };

  broker-tls-without-key = bad "which needs either useACMEHost, or certificate and key" {
    listeners = [ (tls // { key = null; }) ];
  };

  broker-in-the-clear = bad "choose tls, or set `plaintext = true`" {
    listeners = [ (plain // { plaintext = false; }) ];
  };

  broker-anonymous-to-all = bad "must log in" { listeners = [ (plain // { anonymous = true; }) ]; };

  broker-address-without-port = bad "address' is not of type `address and port" {
    listeners = [ (plain // { address = "[::]"; }) ];
  };

  broker-bad-key = bad "home.toml, line 2: the key after the name is not base64 of 32 bytes" {
    listeners = [ plain ];
    logins.home.operators.alice = [ "alice:short" ];
  };

  broker-same-key-twice = bad "alice and bob have the same key" {
    listeners = [ plain ];
    logins.home.operators = {
      alice = [ alice ];
      bob = [ alice ];
    };
  };

  broker-metrics-for-all = bad "is not a loopback address" {
    listeners = [ plain ];
    metrics = "0.0.0.0:9464";
  };

  broker-limit-out-of-range = bad "is not between 1 and 100000" {
    listeners = [ plain ];
    limits.connections = 0;
  };

  broker-misspelt-setting = bad "unknown field `max_conections`" {
    listeners = [ plain ];
    settings.max_conections = 10;
  };

  broker-key-in-the-store = bad "key' is not of type `null or absolute path not in the Nix store" {
    listeners = [ (tls // { key = ./broker.nix; }) ];
  };
}
