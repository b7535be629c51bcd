# A machine that can't be reached with its new system goes back by itself.
_: {
  script = ''
    # Nothing of what the new system says gets through: the network is cut once it is on trial.
    hub.succeed(publish("--confirm-within", "20s", "--stable-for", "15s"))
    alpha.wait_until_succeeds("grep -qx next /etc/version", timeout=60)
    alpha.block()
    alpha.wait_until_succeeds("grep -qx first /etc/version", timeout=120)
    alpha.unblock()
    reports("rolled-back")
  '';
}
