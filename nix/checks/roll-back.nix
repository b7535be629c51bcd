# An operator brings the system of before back, and a person at the machine does.
_: {
  script = ''
    hub.succeed(publish("--watch"))
    runs("next")
    hub.succeed(herald("rollback", "alpha", "--key", "/etc/operator.key", "--watch"))
    runs("first")

    hub.succeed(publish("--watch"))
    runs("next")
    alpha.succeed("herald-subscriber rollback")
    runs("first")
  '';
}
