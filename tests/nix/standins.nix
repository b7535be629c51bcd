# What the modules use of nixpkgs beside its `lib`: packages, and a few options of NixOS. Everything
# here is as small as it can be, but what builds is really built, and the programs of Herald are real.
{
  lib,
  programs, # the folder of Herald's programs, an absolute path
}:

let
  # Builders are /bin/sh, which a sandbox has not, so `sandbox = false`.
  build =
    path: name: environment: script:
    derivation (
      environment
      // {
        inherit name;
        system = builtins.currentSystem;
        builder = "/bin/sh";
        args = [
          "-euc"
          script
        ];
        PATH = path;
      }
    );

  # Links to programs of the machine.
  found =
    name: programs:
    build (builtins.getEnv "PATH") name { } ''
      mkdir -p $out/bin
      for program in ${toString programs}; do
        IFS=:
        for folder in $PATH; do
          [ ! -x $folder/$program ] || { ln -s $folder/$program $out/bin; break; }
        done
        unset IFS
      done
    '';

  # What every build has. Whatever else it takes, it has to say.
  tools = found "stdenv" [
    "bash"
    "cat"
    "chmod"
    "cp"
    "dirname"
    "find"
    "grep"
    "head"
    "ln"
    "mkdir"
    "mv"
    "rm"
    "sed"
    "sh"
    "sort"
    "tail"
    "touch"
    "tr"
  ];

  runCommand =
    name: environment:
    build (lib.makeBinPath (environment.nativeBuildInputs or [ ] ++ [ tools ])) name (
      removeAttrs environment [ "nativeBuildInputs" ]
    );

  writeText =
    name: text:
    runCommand name {
      inherit text;
      passAsFile = [ "text" ];
    } "cp $textPath $out";

  package = name: version: packageWith name version [ ];
  packageWith = name: version: programs: {
    inherit name version;
    value = found name programs // {
      inherit version;
      pname = name;
    };
  };

  # Inline tables and arrays, which TOML has too, make a generator of a few lines.
  toToml =
    value:
    if value == null then
      throw "TOML has no null"
    else if lib.isDerivation value then
      builtins.toJSON "${value}"
    else if lib.isAttrs value then
      "{ ${lib.concatStringsSep ", " (lib.mapAttrsToList keyValue value)} }"
    else if lib.isList value then
      "[ ${lib.concatMapStringsSep ", " toToml value} ]"
    else
      builtins.toJSON value;
  keyValue = name: value: "${builtins.toJSON name} = ${toToml value}";

  # The type is that of nixpkgs.
  tomlValue =
    with lib.types;
    oneOf [
      bool
      int
      float
      str
      path
      (attrsOf tomlValue)
      (listOf tomlValue)
    ]
    // {
      description = "TOML value";
    };

  pkgs = {
    inherit lib runCommand writeText;
    writeShellScriptBin =
      name: text:
      runCommand name { } ''
        mkdir -p $out/bin
        printf '#!/bin/sh\n%s' ${lib.escapeShellArg text} >$out/bin/${name}
        chmod +x $out/bin/${name}
      '';
    stdenv = {
      hostPlatform.system = builtins.currentSystem;
      buildPlatform.canExecute = _: true;
    };
    callPackage =
      file: more:
      let
        function = import file;
      in
      function (lib.intersectAttrs (lib.functionArgs function) pkgs // more);
    # The real programs, whatever it is given to build them from.
    rustPlatform.buildRustPackage =
      given:
      runCommand given.pname { } ''
        mkdir -p $out/bin
        for program in herald herald-broker herald-subscriber; do
          ln -s ${programs}/$program $out/bin
        done
      ''
      // given.passthru
      // {
        inherit (given) version;
        inherit given;
      };
    testers.runNixOSTest = import ./machines.nix { inherit lib pkgs module; };
    formats.toml = { }: {
      type = tomlValue;
      generate =
        name: value:
        writeText name (lib.concatStrings (lib.mapAttrsToList (n: v: keyValue n v + "\n") value));
    };
    herald = pkgs.callPackage ../../nix/package.nix { };
  }
  // lib.listToAttrs [
    (package "coreutils" "9")
    (package "findutils" "4")
    (package "installShellFiles" "1")
    (package "nixfmt-tree" "1")
    (package "gnugrep" "3")
    (package "gnused" "4")
    (package "libnotify" "0.8")
    (package "nix" "2.31")
    (package "nomad" "1.10")
    (packageWith "openssl" "3" [ "openssl" ])
    (packageWith "systemd" "258" [ "systemd-analyze" ])
    (package "util-linux" "2")
  ];

  # The options of NixOS that the modules set or read.
  module = import ./options-of-nixos.nix { inherit lib pkgs; };
in
{
  inherit module pkgs;
}
