# A service as NixOS has it, as far as the modules use it, and the text of its unit: the same lines as
# NixOS writes, in its order (nixos/lib/systemd-lib.nix).
{ lib, pkgs }:
{ config, name, ... }:

let
  inherit (lib) mkOption types;
  texts = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  section = mkOption {
    type = types.attrsOf types.anything;
    default = { };
  };
  flag = mkOption {
    type = types.bool;
    default = true;
  };

  toValue = value: if lib.isBool value then lib.boolToString value else toString value;
  lines =
    table:
    lib.concatStrings (
      lib.concatLists (
        lib.mapAttrsToList (name: value: map (one: "${name}=${toValue one}\n") (lib.toList value)) table
      )
    );

  unit =
    lib.filterAttrs (_: value: value != "") {
      After = toString config.after;
      Wants = toString config.wants;
      Description = config.description;
      Documentation = toString config.documentation;
    }
    // lib.optionalAttrs (config.reloadTriggers != [ ]) {
      X-Reload-Triggers = pkgs.writeText "X-Reload-Triggers-${name}" (toString config.reloadTriggers);
    }
    // lib.optionalAttrs (config.startLimitIntervalSec != null) {
      StartLimitIntervalSec = config.startLimitIntervalSec;
    }
    // config.unitConfig;

  path = config.path ++ [
    pkgs.coreutils
    pkgs.findutils
    pkgs.gnugrep
    pkgs.gnused
    pkgs.systemd
  ];
  environment = config.environment // {
    PATH = "${lib.makeBinPath path}:${lib.makeSearchPathOutput "bin" "sbin" path}";
  };
in
{
  options = {
    after = texts;
    wants = texts;
    wantedBy = texts;
    documentation = texts;
    description = mkOption { type = types.str; };
    reloadTriggers = mkOption {
      type = types.listOf types.package;
      default = [ ];
    };
    restartIfChanged = flag;
    stopIfChanged = flag;
    startLimitIntervalSec = mkOption {
      type = types.nullOr types.int;
      default = null;
    };
    path = mkOption {
      type = types.listOf types.package;
      default = [ ];
    };
    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
    };
    unitConfig = section;
    serviceConfig = section;
    text = mkOption { type = types.str; };
  };

  config.text = ''
    [Unit]
    ${lines unit}
    [Service]
    ${lib.concatStrings (
      lib.mapAttrsToList (n: v: "Environment=${builtins.toJSON "${n}=${v}"}\n") environment
    )}''
  + lib.optionalString (!config.restartIfChanged) "X-RestartIfChanged=false\n"
  + lib.optionalString (!config.stopIfChanged) "X-StopIfChanged=false\n"
  + lines config.serviceConfig
  + lib.optionalString (config.wantedBy != [ ]) ''

    [Install]
    WantedBy=${toString config.wantedBy}
  '';
}
