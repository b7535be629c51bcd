# A release brings another subscriber: the new one proves the system. One that does not work is
# taken back by the old one.
herald: {
  nodes.alpha =
    { lib, pkgs, ... }:
    let
      other = pkgs.runCommand "herald-other" { inherit (herald) version; } "cp -r ${herald} $out";
      broken = pkgs.writeShellScriptBin "herald-subscriber" ''
        # It reads its configuration where the system is built, and does nothing where it runs.
        case $1 in run) exit 1 ;; *) exec ${herald}/bin/herald-subscriber "$@" ;; esac
      '';
    in
    {
      specialisation.next.configuration.services.herald.subscriber.package = lib.mkForce other;
      specialisation.broken.configuration = {
        environment.etc."version".text = "broken";
        services.herald.subscriber.package = lib.mkForce broken;
      };
    };

  script = ''
    def program():
        return alpha.succeed("readlink /proc/$(systemctl show -P MainPID herald-subscriber)/exe").strip()


    before = program()
    hub.succeed(publish("--watch"))
    runs("next")
    assert program() != before

    updated = program()
    hub.fail(publish("--watch", "--confirm-within", "10s", system=FIRST + "/specialisation/broken"))
    runs("next")
    assert program() == updated
    reports("rolled-back")
  '';
}
