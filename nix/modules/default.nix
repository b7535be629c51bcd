# The modules by their names; `default` is both.
{
  subscriber = ./subscriber.nix;
  broker = ./broker.nix;
  default.imports = [
    ./subscriber.nix
    ./broker.nix
  ];
}
