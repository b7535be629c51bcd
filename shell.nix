# What working on Herald takes: `nix develop`, or `nix-shell`.
{
  pkgs ? import <nixpkgs> { },
}:

pkgs.mkShell {
  packages = with pkgs; [
    cargo
    cargo-nextest
    clippy
    deadnix
    mosquitto
    nats-server
    nixfmt
    openssl
    python3
    rust-analyzer
    rustc
    rustfmt
    shellcheck
  ];
}
