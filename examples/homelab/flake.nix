{
  description = "Two machines at home; alpha has the broker and the binary cache, too";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    herald.url = "git+https://example.org/herald"; # where you have it from
    herald.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, herald, ... }:
    let
      machine =
        file:
        nixpkgs.lib.nixosSystem {
          modules = [
            herald.nixosModules.default
            ./common.nix
            file
          ];
        };
    in
    {
      nixosConfigurations = {
        alpha = machine ./alpha.nix;
        beta = machine ./beta.nix;
      };
    };
}
