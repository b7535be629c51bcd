# A service as NixOS has it, as far as the modules and the examples use it: options with the types and
# the merging of nixos/lib/systemd-unit-options.nix, and the text of its unit, with the same lines in the
# same order as nixos/lib/systemd-lib.nix writes them.
{ lib, pkgs }:

let
  inherit (lib) mkOption types;

  # One value, or lines that may come again: where anybody gives a list, everybody's are put together.
  # Other values must be one and the same.
  setting = lib.mkOptionType {
    name = "setting of systemd";
    merge =
      path: definitions:
      let
        values = map (definition: definition.value) definitions;
      in
      if lib.any lib.isList values then
        lib.concatMap lib.toList values
      else
        lib.mergeEqualOption path definitions;
  };

  unitName = types.strMatching "[a-zA-Z0-9@%:_.\\-]+[.](service|socket|device|mount|automount|swap|target|path|timer|scope|slice)";

  # What NixOS refuses of a service, before systemd could.
  known = {
    Type = [
      "exec"
      "simple"
      "forking"
      "oneshot"
      "dbus"
      "notify"
      "notify-reload"
      "idle"
    ];
    Restart = [
      "no"
      "on-success"
      "on-failure"
      "on-abnormal"
      "on-abort"
      "always"
    ];
  };
  isKnown =
    service:
    lib.all (name: !service ? ${name} || lib.elem service.${name} known.${name}) (lib.attrNames known);

  list =
    of:
    mkOption {
      type = types.listOf of;
      default = [ ];
    };
  section = mkOption {
    type = types.attrsOf setting;
    default = { };
  };
  flag =
    default:
    mkOption {
      type = types.bool;
      inherit default;
    };

  toValue = value: if lib.isBool value then lib.boolToString value else toString value;
  lines =
    table:
    lib.concatStrings (
      lib.concatLists (
        lib.mapAttrsToList (name: value: map (one: "${name}=${toValue one}\n") (lib.toList value)) table
      )
    );
  triggers = kind: name: ofUnit: {
    "X-${kind}-Triggers" = pkgs.writeText "X-${kind}-Triggers-${name}" (toString (lib.flatten ofUnit));
  };
in
{
  inherit setting;

  service =
    {
      config,
      name,
      options,
      ...
    }:
    {
      options = {
        after = list unitName;
        before = list unitName;
        requires = list unitName;
        wants = list unitName;
        wantedBy = list unitName;
        documentation = list types.str;
        description = mkOption {
          type = types.singleLineStr;
          default = "";
        };
        restartTriggers = list types.unspecified;
        reloadTriggers = list setting;
        reloadIfChanged = flag false;
        restartIfChanged = flag true;
        stopIfChanged = flag true;
        # Without a default, and so in no unit that does not set it.
        startLimitIntervalSec = mkOption { type = types.int; };
        path = list (types.either types.package types.str);
        environment = mkOption {
          type = types.attrsOf (
            types.nullOr (
              types.oneOf [
                types.str
                types.path
                types.package
              ]
            )
          );
          default = { };
        };
        unitConfig = section;
        serviceConfig = section // {
          type = types.addCheck (types.attrsOf setting) isKnown;
        };
        text = mkOption {
          type = types.str;
          readOnly = true;
        };
      };

      config = {
        path = lib.mkAfter [
          pkgs.coreutils
          pkgs.findutils
          pkgs.gnugrep
          pkgs.gnused
          pkgs.systemd
        ];
        environment.PATH = "${lib.makeBinPath config.path}:${
          lib.makeSearchPathOutput "bin" "sbin" config.path
        }";

        # Among the definitions of others, and so none of these may say it differently.
        unitConfig =
          lib.filterAttrs (_: value: value != "") {
            After = toString config.after;
            Before = toString config.before;
            Requires = toString config.requires;
            Wants = toString config.wants;
            Description = config.description;
            Documentation = toString config.documentation;
          }
          // lib.optionalAttrs (config.restartTriggers != [ ]) (
            triggers "Restart" name config.restartTriggers
          )
          // lib.optionalAttrs (config.reloadTriggers != [ ]) (triggers "Reload" name config.reloadTriggers)
          // lib.optionalAttrs options.startLimitIntervalSec.isDefined {
            StartLimitIntervalSec = toString config.startLimitIntervalSec;
          };

        text = ''
          [Unit]
          ${lines config.unitConfig}
          [Service]
          ${lib.concatStrings (
            lib.mapAttrsToList (name: value: "Environment=${builtins.toJSON "${name}=${value}"}\n") (
              lib.filterAttrs (_: value: value != null) config.environment
            )
          )}''
        + (
          if config.reloadIfChanged then
            "X-ReloadIfChanged=true\n"
          else
            lib.optionalString (!config.restartIfChanged) "X-RestartIfChanged=false\n"
        )
        + lib.optionalString (!config.stopIfChanged) "X-StopIfChanged=false\n"
        + lines config.serviceConfig
        + lib.optionalString (config.wantedBy != [ ]) ''

          [Install]
          WantedBy=${toString config.wantedBy}
        '';
      };
    };
}
