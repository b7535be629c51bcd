# A test on virtual machines, as NixOS's testers.runNixOSTest takes it, as far as nix/checks uses that: the
# machines are evaluated, with options that virtual machines have beside those of NixOS. What comes of it
# is their systems and the script.
{
  lib,
  pkgs,
  module,
}:
test:

let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };

  machine =
    { config, extendModules, ... }:
    {
      options = {
        boot.growPartition = option types.bool false;
        boot.loader.efi.canTouchEfiVariables = option types.bool false;
        boot.loader.timeout = option (types.nullOr types.int) 5;
        isSpecialisation = option types.bool false;
        # Another system, with all that this one has.
        specialisation = mkOption {
          default = { };
          type = types.attrsOf (
            types.submodule {
              options.configuration = mkOption {
                inherit
                  (extendModules {
                    modules = [
                      {
                        isSpecialisation = true;
                        specialisation = lib.mkOverride 0 { };
                      }
                    ];
                  })
                  type
                  ;
                default = { };
              };
            }
          );
        };
        # Left out of a test's machines that have only one system.
        system.switch.enable = option types.bool (config.isSpecialisation || config.specialisation != { });
        system.build.toplevel = mkOption {
          type = types.package;
          readOnly = true;
        };
        virtualisation = {
          additionalPaths = option (types.listOf types.path) [ ];
          diskSize = option types.ints.positive 1024;
          useBootLoader = option types.bool false;
          useEFIBoot = option types.bool false;
          fileSystems = option (types.attrsOf (
            types.submodule { options.autoResize = option types.bool false; }
          )) { };
        };
      };
      config = {
        assertions = [
          {
            assertion = config.virtualisation.useBootLoader -> config.system.switch.enable;
            message = "virtualisation.useBootLoader needs system.switch.enable.";
          }
          {
            assertion = config.boot.growPartition -> config.virtualisation.fileSystems."/".autoResize or false;
            message = "boot.growPartition alone makes no file system larger.";
          }
        ];
        system.build.toplevel = lib.asserts.checkAssertWarn config.assertions config.warnings (
          pkgs.runCommand "nixos-system" { inherit (config.system) checks; } ''
            mkdir -p $out/specialisation
            ${config.system.systemBuilderCommands}
            ${lib.concatStrings (
              lib.mapAttrsToList (name: other: ''
                ln -s ${other.configuration.system.build.toplevel} $out/specialisation/${name}
              '') config.specialisation
            )}
          ''
        );
      };
    };

  nixos = lib.evalModules {
    specialArgs = { inherit pkgs; };
    modules = [
      module
      machine
      { _module.args = { inherit (evaluated) nodes; }; }
    ];
  };

  # The names of the machines are theirs on the network.
  evaluated =
    (lib.evalModules {
      modules = [
        (
          { config, ... }:
          {
            options = {
              name = mkOption { type = types.str; };
              nodes = mkOption { type = types.lazyAttrsOf nixos.type; };
              testScript = mkOption { type = types.either types.str (types.functionTo types.str); };
              script = mkOption { type = types.str; };
            };
            config.script =
              if lib.isFunction config.testScript then
                config.testScript { inherit (config) nodes; }
              else
                config.testScript;
          }
        )
        test
      ];
    }).config;
in
{
  inherit (evaluated) script;
  systems = map (node: node.system.build.toplevel) (lib.attrValues evaluated.nodes);
}
