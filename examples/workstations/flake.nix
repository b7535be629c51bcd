{
  description = "Laptops of people without root, and the machine on the internet with their broker";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    herald.url = "git+https://example.org/herald"; # where you have it from
    herald.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, herald, ... }:
    let
      machine =
        modules:
        nixpkgs.lib.nixosSystem {
          modules = [ herald.nixosModules.default ] ++ modules;
        };
      laptop =
        name: user:
        machine [
          ./laptop.nix
          {
            networking.hostName = name;
            # Not in `wheel`: nothing of the system is theirs to change.
            users.users.${user} = {
              isNormalUser = true;
              extraGroups = [ "networkmanager" ];
            };
          }
        ];
    in
    {
      nixosConfigurations = {
        hub = machine [ ./hub.nix ];
        lap-emma = laptop "lap-emma" "emma";
        lap-noah = laptop "lap-noah" "noah";
      };
    };
}
