# Another machine.
{
  networking.hostName = "beta";

  services.jellyfin.enable = true;
  services.herald.subscriber = {
    healthChecks.jellyfin.http = "http://127.0.0.1:8096/health";
    # Nobody watches films then.
    maintenanceWindow = {
      opens = [ "04:00" ];
      lasts = "2h";
    };
  };
}
