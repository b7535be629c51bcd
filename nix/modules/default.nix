# The modules by their names; `default` is both. `package` makes Herald's package from a nixpkgs.
{ package }:

let
  module =
    part:
    { lib, pkgs, ... }:
    {
      _file = ./default.nix;
      # Once, however often it is imported.
      key = "herald-${part}";
      imports = [ (./. + "/${part}.nix") ];
      # Whatever anybody says goes before it, and so does an overlay's.
      services.herald.${part}.package = lib.mkOverride 1400 (pkgs.herald or (package pkgs));
    };
in
rec {
  subscriber = module "subscriber";
  broker = module "broker";
  default.imports = [
    subscriber
    broker
  ];
}
