# The broker goes down while a system is on trial, and while a host waits: nothing is lost.
_: {
  script = ''
    hub.succeed(publish("--confirm-within", "3m", "--stable-for", "5s"))
    hub.succeed("systemctl restart herald-broker.service")
    reports("succeeded")
    runs("next")

    # An order that the broker has acknowledged is there after a crash of the whole machine.
    alpha.block()
    hub.succeed(publish(system=FIRST))
    hub.crash()
    hub.start()
    hub.wait_for_unit("herald-broker.service")
    alpha.unblock()
    alpha.wait_until_succeeds("grep -qx first /etc/version", timeout=180)
    reports("succeeded")
  '';
}
