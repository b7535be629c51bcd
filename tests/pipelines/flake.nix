# The repository of a fleet's systems, for the tests of examples/ci. Its systems are the quickstart's
# (system.nix), and need no nixpkgs: every builder is the machine's own shell. What a flake must not look
# at is put in its place.
{
  outputs =
    { self }:
    let
      impure = builtins // {
        currentSystem = "@system@";
        getEnv = _: "@path@";
      };
      system = builtins.scopedImport { builtins = impure; } ./system.nix;
      machine = host: activation: {
        config.system.build.toplevel = system {
          inherit host activation;
          root = "@hosts@/${host}/root";
          label = "1";
        };
      };
    in
    {
      nixosConfigurations = {
        alpha = machine "alpha" "good";
        beta = machine "beta" "@beta@";
      };
    };
}
