{
  description = "Herald: deploys signed NixOS systems to a fleet over MQTT";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      eachSystem =
        of:
        lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: of nixpkgs.legacyPackages.${system});
      # It knows how old it is: a host believes no clock that is before its subscriber.
      package = pkgs: pkgs.callPackage ./nix/package.nix { inherit (self) lastModified; };
    in
    {
      packages = eachSystem (pkgs: rec {
        herald = package pkgs;
        default = herald;
      });

      overlays.default = final: _: { herald = package final; };

      nixosModules = import ./nix/modules { inherit package; };

      devShells = eachSystem (pkgs: {
        default = import ./shell.nix { inherit pkgs; };
      });

      # Virtual machines, but for the package itself.
      checks = eachSystem (
        pkgs:
        {
          inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) herald;
        }
        // import ./nix/checks {
          inherit pkgs;
          herald = self.packages.${pkgs.stdenv.hostPlatform.system}.herald;
        }
      );

      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
