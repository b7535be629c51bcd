# What every laptop has.
{ lib, ... }:
{
  services.herald.subscriber = {
    enable = true;
    fleet = "office";
    # Over 443, as hotels and trains let nothing else out. The laptop connects; nobody connects to it.
    broker = "wss://hub.example.org/mqtt";
    trust = lib.importTOML ./trust.toml;
    enrolment.tokenFile = "/var/lib/secrets/herald-token";

    # Not in the middle of a working day, and not without asking whoever is logged in.
    maintenanceWindow = {
      opens = [
        "Mon..Fri 12:00"
        "Mon..Fri 17:00"
      ];
      lasts = "3h";
    };
    consent.deadline = "72h";

    # Nothing here may need the network: a laptop is healthy without.
    healthChecks.desktop.unit = "display-manager.service";
    # Somebody sits there and can look, better than a machine that restarts.
    rebootIfRollBackFails = false;
    # What activations print is nobody's business elsewhere.
    activationOutput = "local";
    retention.generations.last = 5;
  };

  nix.settings = {
    substituters = [ "https://cache.example.org" ];
    trusted-public-keys = [ "cache.example.org-1:n3jXgLB/Q410pgb+DCXNYX/bw3nWU89DvPsUQaF0qcY=" ];
    # Users build nothing, and bring nothing into the store.
    allowed-users = [ "root" ];
  };
  nix.gc.automatic = true;

  networking.networkmanager.enable = true;
  services.displayManager.gdm.enable = true;
  services.desktopManager.gnome.enable = true;
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "25.11";

  # As the hardware-configuration.nix of each has them.
  boot.loader.systemd-boot.enable = true;
  boot.initrd.luks.devices.root.device = "/dev/disk/by-partlabel/root";
  fileSystems."/" = {
    device = "/dev/mapper/root";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/boot";
    fsType = "vfat";
  };
}
