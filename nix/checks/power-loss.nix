# The power goes while a new system is on trial: the machine comes back with the old one.
_: {
  script = ''
    hub.succeed(publish("--confirm-within", "5m", "--stable-for", "4m"))
    alpha.wait_until_succeeds("grep -qx next /etc/version", timeout=60)
    alpha.crash()
    alpha.start()
    alpha.wait_for_unit("herald-subscriber.service")
    runs("first")
    reports("rolled-back")

    # What was committed stays, however hard the machine goes down.
    hub.succeed(publish("--watch", "--reason", "once more", system=NEXT))
    alpha.crash()
    alpha.start()
    alpha.wait_for_unit("herald-subscriber.service")
    runs("next")
  '';
}
