{
  description = "Machines that work in a Nomad cluster; another one is a line here";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    herald.url = "git+https://example.org/herald"; # where you have it from
    herald.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, herald, ... }:
    let
      client =
        name:
        nixpkgs.lib.nixosSystem {
          modules = [
            herald.nixosModules.default
            ./client.nix
            { networking.hostName = name; }
          ];
        };
    in
    {
      nixosConfigurations = nixpkgs.lib.genAttrs [
        "client-1"
        "client-2"
      ] client;
    };
}
