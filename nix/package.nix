# Herald's three programs, with their manual pages and completions.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
  # When the source was last changed, in seconds: no host's clock is believed to be before that.
  lastModified ? null,
}:

let
  inherit (builtins.fromTOML (builtins.readFile ../Cargo.toml)) workspace;
  programs = [
    "herald-cli"
    "herald-subscriber"
    "herald-broker"
  ];
  # These need neither Nix nor a broker nor the network.
  tested = [
    "herald-proto"
    "herald-core"
    "herald-fleet"
  ];
  named = map (name: "--package=${name}");
in
rustPlatform.buildRustPackage {
  pname = "herald";
  inherit (workspace.package) version;

  # The tests are members of the workspace, without which Cargo does not start. The diagram of the states
  # is tested against the code.
  src = lib.sourceByRegex ../. [
    "Cargo\\.(toml|lock)"
    "LICENSE-.*"
    "(broker|proto|publisher-cli|subscriber)(/.*)?"
    "docs"
    "docs/states\\.md"
    "tests"
    "tests/Cargo\\.toml"
    "tests/src(/.*)?"
  ];
  cargoLock.lockFile = ../Cargo.lock;

  cargoBuildFlags = named programs;
  cargoTestFlags = named tested;
  nativeBuildInputs = [ installShellFiles ];

  preBuild = lib.optionalString (lastModified != null) ''
    export SOURCE_DATE_EPOCH=${toString lastModified}
  '';

  # A program's own help is its manual page; subcommands have one each, as `git` has them.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    PATH=$out/bin:$PATH bash ${./manual-pages}/write man
    installManPage man/*.1
    for program in herald herald-broker herald-subscriber; do
      for shell in bash fish zsh; do
        $out/bin/$program completions $shell >$program.$shell
      done
      installShellCompletion --cmd $program \
        --bash $program.bash --fish $program.fish --zsh $program.zsh
    done
  '';

  # What the NixOS module writes into herald.json: the formats of state that this subscriber reads.
  passthru.stateFormats = [ 0 ];

  meta = {
    description = "Deploys signed NixOS systems to a fleet over MQTT";
    license = [
      lib.licenses.asl20
      lib.licenses.mit
    ];
    platforms = lib.platforms.linux;
    mainProgram = "herald";
  };
}
