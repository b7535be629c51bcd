# Evaluates configurations with the modules, and builds what comes of them: one folder for each, with
# its units, what it has in /etc, and facts about the system. Building it runs `check-config`, and looks
# for what the case says must be there.
#
#   nix-build tests/nix --arg lib 'import LIB' --argstr programs DIR -A cases.NAME
{
  lib,
  programs ? "/nonexistent", # the folder of Herald's programs, an absolute path
  examples ? ../../examples, # with what their READMEs have people make
}:

let
  standins = import ./standins.nix { inherit lib programs; };
  inherit (standins) pkgs;

  evaluate =
    module:
    lib.evalModules {
      specialArgs = { inherit pkgs; };
      modules = [
        standins.module
        flake.nixosModules.default
        # Once more, as somebody may have it.
        flake.nixosModules.broker
        module
      ];
    };

  # What of a unit is another once the case's change is made, which says what a switch does with it.
  changed =
    before:
    { module, change, ... }:
    let
      after =
        (evaluate {
          imports = [
            module
            change.module
          ];
        }).config;
      linesOf = config: lib.splitString "\n" config.systemd.services.${change.unit}.text;
      others = lib.subtractLists (linesOf before) (linesOf after);
      found = lib.unique (map (line: lib.head (lib.splitString "=" line)) others);
    in
    lib.optionalString (found != change.lines) ''
      echo ${lib.escapeShellArg "${change.unit} changes in: ${toString found}"} >&2
      exit 1
    '';

  # As NixOS: what does not hold ends the evaluation.
  system =
    name: case:
    let
      inherit (evaluate case.module) config;
      facts = pkgs.writeText "facts" (
        lib.generators.toKeyValue { } {
          users = toString (lib.attrNames config.users.users);
          groups = toString (lib.attrNames config.users.groups);
          ports = toString config.networking.firewall.allowedTCPPorts;
          tmpfiles = toString config.systemd.tmpfiles.rules;
          fsync = toString (config.nix.settings.fsync-store-paths or "no");
          watchdog = config.systemd.settings.Manager.RuntimeWatchdogSec or "no";
          reloads = toString (
            lib.concatMap (one: one.reloadServices) (lib.attrValues config.security.acme.certs)
          );
        }
      );
      link = target: file: "mkdir -p $(dirname ${target}); ln -s ${file} ${target}";
      units = lib.mapAttrsToList (
        unit: service: link "$out/units/${unit}.service" (pkgs.writeText "${unit}.service" service.text)
      ) config.systemd.services;
      etc = lib.mapAttrsToList (file: entry: link "$out/etc/${file}" entry.source) config.environment.etc;
      broker = lib.optional config.services.herald.broker.enable (
        link "$out/broker.toml" config.services.herald.broker.configurationFile
      );
      has = file: line: "has ${file} ${lib.escapeShellArg line}";
      lacks = file: text: "lacks ${file} ${lib.escapeShellArg text}";
      each = check: files: lib.concatLists (lib.mapAttrsToList (file: map (check file)) files);
    in
    lib.asserts.checkAssertWarn config.assertions config.warnings (
      pkgs.runCommand "configuration-${name}" { checks = config.system.checks; } ''
        has() { grep -qF -- "$2" $out/$1 || { echo "$1 has no: $2" >&2; cat $out/$1 >&2; exit 1; }; }
        lacks() { if grep -F -- "$2" $out/$1; then echo "$1 has: $2" >&2; exit 1; fi; }
        mkdir $out
        ${lib.concatStringsSep "\n" (units ++ etc ++ broker)}
        ln -s ${facts} $out/facts
        ${config.system.systemBuilderCommands}
        ${lib.concatStringsSep "\n" (each has (case.has or { }) ++ each lacks (case.lacks or { }))}
        ${lib.optionalString (case ? change) (changed config case)}
      ''
    );

  all =
    import ./cases/subscriber.nix { inherit lib pkgs; }
    // import ./cases/broker.nix { inherit lib pkgs; }
    // import ./cases/examples.nix { inherit lib examples; };
  # What it gives to whoever has nixpkgs.
  flake = (import ../../flake.nix).outputs {
    self = flake // {
      lastModified = 1764288000;
    };
    nixpkgs = {
      inherit lib;
      legacyPackages = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ] (_: pkgs);
    };
  };
  package = flake.packages.x86_64-linux.herald.given;
  checks = removeAttrs flake.checks.x86_64-linux [ "herald" ];
in
{
  # name -> what refusing it says, or null
  refused = lib.mapAttrs (_: case: case.refused or null) all;
  cases = lib.mapAttrs system all;
  options = import ./options.nix {
    inherit lib;
    inherit (evaluate { }) options;
  };
  # The source of the package, which is a part of this repository.
  source = pkgs.runCommand "source" { } "ln -s ${package.src} $out";
  # What of it is built and tested.
  packages = {
    built = package.cargoBuildFlags;
    tested = package.cargoTestFlags;
  };
  # That the modules have the flake's package, which knows its age, unless there is another.
  age =
    let
      packageWith =
        pkgs:
        (lib.evalModules {
          specialArgs = { inherit pkgs; };
          modules = [
            standins.module
            flake.nixosModules.subscriber
          ];
        }).config.services.herald.subscriber.package;
    in
    assert packageWith pkgs == pkgs.herald;
    assert (flake.overlays.default pkgs { }).herald.given.preBuild == package.preBuild;
    (packageWith (removeAttrs pkgs [ "herald" ])).given.preBuild;
  # Of the tests on virtual machines: the machines' systems, and name -> its script.
  machines = pkgs.runCommand "machines" {
    systems = lib.concatMap (check: check.systems) (lib.attrValues checks);
  } "echo $systems >$out";
  scripts = lib.mapAttrs (_: check: check.script) checks;
}
