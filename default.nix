# For those without flakes: `nix-build -A herald`, and in a configuration
# `imports = [ (import ./herald { }).nixosModules.default ];` with an absolute or relative path.
{
  pkgs ? import <nixpkgs> { },
}:

let
  package = of: of.callPackage ./nix/package.nix { };
  herald = package pkgs;
in
{
  inherit herald;
  nixosModules = import ./nix/modules { inherit package; };
  overlay = final: _: { herald = package final; };
  checks = import ./nix/checks { inherit pkgs herald; };
}
