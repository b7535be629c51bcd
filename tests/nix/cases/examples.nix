# The machines of the examples, as their flakes make them; see subscriber.nix. Of NixOS only the options in
# standins.nix are known here. What else the examples set is taken as it stands, right or wrong; but not what
# they say of Herald.
{ lib, examples }:

let
  unknown =
    { config, options, ... }:
    let
      misspelt =
        path: options: config:
        lib.concatLists (
          lib.mapAttrsToList (
            name: value:
            let
              own = path ++ [ name ];
            in
            if !options ? ${name} then
              [ (lib.showOption own) ]
            else
              lib.optionals (!lib.isOption options.${name}) (misspelt own options.${name} value)
          ) config
        );
      found = misspelt [ "services" "herald" ] options.services.herald config.services.herald;
    in
    {
      _module.freeformType = with lib.types; lazyAttrsOf anything;
      assertions = [
        {
          assertion = found == [ ];
          message = "Herald has no option ${toString found}.";
        }
      ];
    };
  flake =
    folder:
    (import (examples + "/${folder}/flake.nix")).outputs {
      self = { };
      nixpkgs.lib = lib // {
        nixosSystem = { modules }: { imports = modules ++ [ unknown ]; };
      };
      # evalModules has the real ones.
      herald.nixosModules.default = { };
    };
  machine = folder: name: has: {
    "${folder}-${name}" = {
      module = (flake folder).nixosConfigurations.${name};
      inherit has;
    };
  };

  subscriber = "etc/herald/subscriber.toml";
  health = "etc/herald/health.d";
in
lib.mergeAttrsList [
  (machine "homelab" "alpha" {
    ${subscriber} = [
      ''"host" = "alpha"''
      ''"broker" = "mqtts://alpha.lan"''
      "-broker.crt"
    ];
    "broker.toml" = [ ''"key" = "/var/lib/secrets/herald-broker.key"'' ];
    "etc/herald-broker/home.toml" = [
      ''"alice" = [ "alice:aLsy''
      "-trust.toml"
    ];
    facts = [ "ports=8883" ];
  })
  (machine "homelab" "beta" {
    ${subscriber} = [
      ''"host" = "beta"''
      ''"opens" = [ "04:00" ]''
    ];
    "${health}/jellyfin.toml" = [ "http://127.0.0.1:8096/health" ];
    "${health}/ssh.toml" = [ "127.0.0.1:22" ];
  })
  (machine "workstations" "hub" {
    "broker.toml" = [
      ''"address" = "[::]:443"''
      ''"certificate" = "/var/lib/acme/hub.example.org/fullchain.pem"''
    ];
    facts = [ "ports=80 443 8883" ];
  })
  (machine "workstations" "lap-emma" {
    ${subscriber} = [
      ''"host" = "lap-emma"''
      ''"consent" = { "deadline" = "72h" }''
      ''"if_roll_back_fails" = false''
      ''"activation_output" = "local"''
      ''"enrol" = { "token" = "/var/lib/secrets/herald-token" }''
    ];
    "etc/herald/trust.toml" = [ ''"threshold" = 2'' ];
    facts = [ "users=emma" ];
  })
  (machine "workstations" "lap-noah" { ${subscriber} = [ ''"host" = "lap-noah"'' ]; })
  (machine "nomad-client" "client-1" {
    ${subscriber} = [ ''"host" = "client-1"'' ];
    "${health}/nomad-agent.toml" = [ "http://127.0.0.1:4646/v1/agent/health?type=client" ];
    "${health}/nomad-node.toml" = [ "-node-ready" ];
    "units/herald-subscriber.service" = [
      "LoadCredential=nomad-token:/var/lib/secrets/nomad-token"
      "-nomad/bin"
    ];
    facts = [ "watchdog=30s" ];
  })
  (machine "nomad-client" "client-2" { ${subscriber} = [ ''"host" = "client-2"'' ]; })
  {
    # That all of this is looked at.
    example-misspelt = {
      module = {
        imports = [ (flake "homelab").nixosConfigurations.beta ];
        services.herald.subscriber.retention.genarations = "all";
      };
      refused = "Herald has no option services.herald.subscriber.retention.genarations.";
    };
  }
]
