# A small machine that laptops reach from everywhere.
{
  networking.hostName = "hub";

  services.herald.broker = {
    enable = true;
    names = [ "hub.example.org" ];
    listeners = [
      {
        address = "[::]:443";
        transport = "secure-websocket";
        useACMEHost = "hub.example.org";
      }
      {
        address = "[::]:8883";
        useACMEHost = "hub.example.org";
      }
    ];
    logins.office = {
      operators.alice = [ "alice:aLsyYoCLds3vfKXh25vSm0avd6nq6m27USuORdQ9ppw=" ];
      trust = "${./trust.toml}";
    };
    # A whole office can be behind one address.
    limits.connectionsPerAddress = 2000;
    openFirewall = true;
  };

  security.acme = {
    acceptTerms = true;
    defaults.email = "alice@example.org";
    certs."hub.example.org".listenHTTP = ":80";
  };
  networking.firewall.allowedTCPPorts = [ 80 ];

  services.openssh.enable = true;
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "25.11";
  boot.loader.grub.enable = true;
  boot.loader.grub.device = "/dev/vda";
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
}
