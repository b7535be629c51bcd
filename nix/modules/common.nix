# What both modules are made of: kinds of values, configurations that are checked when the system is
# built, and folders for what a service keeps.
{ lib, pkgs }:

let
  inherit (lib) mkOption types;

  # A system for another kind of machine is checked by its own programs alone, when they start.
  runsHere = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
in
{
  toml = pkgs.formats.toml { };

  address = types.strMatching ".+:[0-9]+" // {
    description = "address and port, as in [::]:8883";
  };

  # Public: it may come with the configuration, and so from the store.
  certificateFile =
    description:
    mkOption {
      type = types.nullOr types.path;
      default = null;
      inherit description;
    };

  # A file on the machine, never copied into the store, which everybody can read.
  secretFile =
    option:
    mkOption (
      {
        type = types.nullOr types.externalPath;
        default = null;
      }
      // option
    );

  # Whether something is there only once the machine runs. A path of the configuration itself is not: Nix
  # copies it into the store.
  isOnMachine =
    file:
    file != null && !builtins.isPath file && !lib.hasPrefix "${builtins.storeDir}/" (toString file);

  # What of `system.checks` lets a program read its configuration, or nothing where it can't run.
  checks =
    {
      package,
      program,
      file,
      needs ? [ ],
      before ? "",
    }:
    lib.optional runsHere (
      pkgs.runCommand "${program}-configuration" { nativeBuildInputs = [ package ] ++ needs; } ''
        ${before}
        ${program} check-config --config ${file}
        touch $out
      ''
    );

  # The folder for what a service keeps: systemd makes the usual one, tmpfiles any other.
  state =
    {
      option,
      path,
      name,
      user,
    }:
    let
      isUsual = path == "/var/lib/${name}";
    in
    {
      rules = lib.optional (!isUsual) "d ${path} 0700 ${user} ${user} -";
      writable = lib.optional (!isUsual) path;
      serviceConfig = lib.optionalAttrs isUsual {
        StateDirectory = name;
        StateDirectoryMode = "0700";
      };
      assertion = {
        assertion = lib.hasPrefix "/" path && !lib.hasPrefix builtins.storeDir path;
        message = ''
          ${option} is "${path}": it must be an absolute path outside of the Nix store.
        '';
      };
    };
}
