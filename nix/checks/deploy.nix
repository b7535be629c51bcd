# A system is deployed, stays, and is what boots next.
_: {
  script = ''
    hub.succeed(publish("--watch", "--reason", "another version"))
    runs("next")
    assert report()["phase"] == "succeeded"
    profile = alpha.succeed("realpath /nix/var/nix/profiles/system").strip()
    assert profile == alpha.succeed("realpath /run/current-system").strip()

    alpha.shutdown()
    alpha.start()
    alpha.wait_for_unit("herald-subscriber.service")
    runs("next")
  '';
}
