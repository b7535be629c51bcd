# What every machine of the cluster that takes work has.
{ lib, pkgs, ... }:
{
  services.herald.subscriber = {
    enable = true;
    fleet = "cluster";
    broker = "mqtts://broker.example.org";
    trust = lib.importTOML ./trust.toml;
    enrolment.tokenFile = "/var/lib/secrets/herald-token";

    healthChecks = {
      # The agent runs, and knows servers.
      nomad-agent.http = "http://127.0.0.1:4646/v1/agent/health?type=client";
      # The servers call this node ready.
      nomad-node.command = [
        "/bin/sh"
        "${./node-ready}"
      ];
    };
    path = [ pkgs.nomad ];
    # Where the cluster has ACLs: a token that may read agent and node.
    credentials.nomad-token = "/var/lib/secrets/nomad-token";

    # A kernel that hangs is restarted by the machine.
    hardwareWatchdog = "30s";
  };

  services.nomad = {
    enable = true;
    dropPrivileges = false; # a client mounts, and makes cgroups
    settings = {
      client = {
        enabled = true;
        servers = [
          "nomad-1.example.org"
          "nomad-2.example.org"
          "nomad-3.example.org"
        ];
      };
    };
  };
  nixpkgs.config.allowUnfreePredicate = package: lib.getName package == "nomad";

  nix.settings = {
    substituters = [ "https://cache.example.org" ];
    trusted-public-keys = [ "cache.example.org-1:n3jXgLB/Q410pgb+DCXNYX/bw3nWU89DvPsUQaF0qcY=" ];
  };

  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA… alice" ];
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "25.11";
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
