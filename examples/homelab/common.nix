# What both machines have.
{ lib, ... }:
{
  services.herald.subscriber = {
    enable = true;
    fleet = "home";
    broker = "mqtts://alpha.lan";
    tls.caFile = ./broker.crt;
    trust = lib.importTOML ./trust.toml;
    # For a host that gets a new key: `herald host rotate`.
    enrolment.tokenFile = "/var/lib/secrets/herald.token";
    # A system that nobody can log in to is rolled back.
    healthChecks.ssh.tcp = "127.0.0.1:22";
    retention.generations.last = 10;
  };

  nix.settings = {
    substituters = [ "http://alpha.lan:5000" ];
    trusted-public-keys = [ "alpha.lan-1:n3jXgLB/Q410pgb+DCXNYX/bw3nWU89DvPsUQaF0qcY=" ];
  };

  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA… alice" ];
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "25.11";

  # As your hardware-configuration.nix has them.
  boot.loader.systemd-boot.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/boot";
    fsType = "vfat";
  };
}
