# Tests on virtual machines that run NixOS (`nix flake check`, `nix build .#checks.x86_64-linux.deploy`).
#
# Not yet run: they are written after NixOS's test driver and virtual machines, and tests/nix plays both:
# it evaluates the machines, and the scripts' commands are understood by the programs. What they are about
# runs elsewhere, on a real systemd (tests/systemd) and on real power cuts (tests/power), but not on NixOS.
{ pkgs, herald }:

let
  fleet = import ./fleet.nix {
    inherit (pkgs) lib;
    inherit herald;
  };
  test =
    name: file:
    let
      # What it adds to the fleet's machines, and its script.
      case = import file herald;
    in
    pkgs.testers.runNixOSTest {
      inherit name;
      imports = [
        { inherit (fleet) nodes; }
        { nodes = case.nodes or { }; }
      ];
      testScript = { nodes, ... }: fleet.beginning nodes + case.script;
    };
in
builtins.mapAttrs test {
  deploy = ./deploy.nix;
  roll-back = ./roll-back.nix;
  magic-roll-back = ./magic-roll-back.nix;
  power-loss = ./power-loss.nix;
  self-update = ./self-update.nix;
  broker-restart = ./broker-restart.nix;
}
