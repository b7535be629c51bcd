# The machine that is always on.
{
  networking.hostName = "alpha";

  services.herald.broker = {
    enable = true;
    names = [ "alpha.lan" ];
    listeners = [
      {
        address = "[::]:8883";
        certificate = ./broker.crt;
        key = "/var/lib/secrets/herald-broker.key";
      }
    ];
    logins.home = {
      operators.alice = [ "alice:aLsyYoCLds3vfKXh25vSm0avd6nq6m27USuORdQ9ppw=" ];
      # Hosts log in by what alice has signed of them: `herald host enrol`.
      trust = "${./trust.toml}";
    };
    openFirewall = true;
  };

  # Serves alpha's store, and signs what it serves.
  services.nix-serve = {
    enable = true;
    secretKeyFile = "/var/lib/secrets/cache.key";
    openFirewall = true;
  };
}
