# The fleet of all tests: `hub` has the broker and the operator, `alpha` is deployed to.
#
# A test gives alpha another system as the specialisation `next`. Its closure is on both machines, so
# that no binary cache is needed: that it is fetched is shown elsewhere. The keys in keys/ are for these
# tests only.
{ lib, herald }:

let
  # Public halves, as `herald key public` prints them.
  operator = "operator:UgITqL5YrnWQ8W+i4RbNHnl26HezcmC/jJzDgqHs+BI=";
  alice = "alice:CD6hqe8taYaZFOXspIHMx+FnBTy8LYsXgK7DPGEVmQ8=";
  alpha = "alpha:4O8vxUxl7WbLtI/EAvhMJBhUaXUbmoj3DDKfAgJJrJM=";
in
{
  nodes.hub =
    { nodes, pkgs, ... }:
    {
      imports = [ ../modules/broker.nix ];
      networking.firewall.allowedTCPPorts = [ 1883 ];
      services.herald.broker = {
        enable = true;
        package = herald;
        names = [ "hub" ];
        listeners = [
          {
            address = "0.0.0.0:1883";
            transport = "tcp";
            plaintext = true;
          }
        ];
        logins.test = {
          hosts.alpha = [ alpha ];
          operators.alice = [ alice ];
        };
      };
      # The operator: the digest of a closure comes from the Nix database of the machine.
      virtualisation.additionalPaths = [ nodes.alpha.system.build.toplevel ];
      environment.etc = {
        "fleet.toml".source = (pkgs.formats.toml { }).generate "fleet.toml" {
          fleet = "test";
          broker = "mqtt://hub";
          login.kind = "signed";
          hosts.alpha.key = alpha;
        };
        "operator.key" = {
          source = ./keys/operator.key;
          mode = "0600";
        };
        "alice.key" = {
          source = ./keys/alice.key;
          mode = "0600";
        };
      };
    };

  nodes.alpha = {
    imports = [ ../modules/subscriber.nix ];
    services.herald.subscriber = {
      enable = true;
      package = lib.mkDefault herald;
      broker = "mqtt://hub";
      fleet = "test";
      trust.release.keys = [ operator ];
    };
    # The key that it would make itself, so that the hub knows it.
    systemd.tmpfiles.rules = [
      "d /var/lib/herald 0700 root root -"
      "C /var/lib/herald/host.key 0600 root root - ${./keys/alpha.key}"
    ];
    # A system profile, boot entries, a store and a root that are there again after a crash.
    virtualisation = {
      useBootLoader = true;
      useEFIBoot = true;
      diskSize = 4096;
      # The image has its root on it, and hardly any room beside.
      fileSystems."/".autoResize = true;
    };
    boot.growPartition = true;
    boot.loader.systemd-boot.enable = true;
    boot.loader.efi.canTouchEfiVariables = true;
    boot.loader.timeout = 0;
    system.switch.enable = true;
    specialisation.next.configuration.environment.etc."version".text = "next";
    environment.etc."version".text = lib.mkDefault "first";
  };

  # What all scripts share.
  beginning = nodes: ''
    import json
    import shlex

    FIRST = "${nodes.alpha.system.build.toplevel}"
    NEXT = FIRST + "/specialisation/next"


    def herald(*arguments):
        command = ["herald", "--fleet-file", "/etc/fleet.toml", "--login-key", "/etc/alice.key"]
        return shlex.join(command + list(arguments))


    def publish(*arguments, system=NEXT):
        system = hub.succeed(f"realpath {system}").strip()
        return herald("publish", "--key", "/etc/operator.key", "--host", f"alpha={system}", *arguments)


    def report():
        return json.loads(hub.succeed(herald("status", "--json")))["hosts"][0]


    # Pipes fail as a whole, so grep reads to the end (as with -q it does not).
    def says(field, value, timeout):
        status = herald("status", "--json")
        hub.wait_until_succeeds(f"{status} | grep -c '\"{field}\": *\"{value}\"'", timeout=timeout)


    def reports(phase):
        says("phase", phase, timeout=180)


    def runs(version):
        assert alpha.succeed("cat /etc/version").strip() == version


    start_all()
    hub.wait_for_unit("herald-broker.service")
    alpha.wait_for_unit("herald-subscriber.service")
    says("presence", "online", timeout=120)
    runs("first")
  '';
}
