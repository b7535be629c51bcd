# The reference of all options of the modules, as Markdown.
{ lib, options }:

let
  ours = lib.filter (
    option: option.visible && !option.internal && lib.hasPrefix "services.herald." option.name
  ) (lib.optionAttrSetToDocList options);

  # `mkOption` gives values as code or as text that says what they are.
  value =
    shown:
    if shown._type or "" == "literalMD" then " ${shown.text}" else code (shown.text or (text shown));
  text = lib.generators.toPretty { };
  code =
    shown:
    if lib.hasInfix "\n" shown then "\n\n  ```nix\n  ${indented shown}\n  ```" else " `${shown}`";
  indented = lib.replaceStrings [ "\n" ] [ "\n  " ];
  oneLine = description: lib.trim (description.text or description);

  entry =
    option:
    ''
      ### `${lib.removePrefix "services.herald." option.name}`

      ${oneLine option.description}

      - type: ${option.type}
    ''
    + lib.optionalString (option ? default) "- default:${value option.default}\n"
    + lib.optionalString (option ? example) "- example:${value option.example}\n";

  part =
    name:
    lib.concatMapStringsSep "\n" entry (
      lib.filter (option: lib.hasPrefix "services.herald.${name}." option.name) ours
    );
in
''
  # Options of the NixOS modules

  Written by `tests/nix/run --write` from `nix/modules`; do not edit.
  Names are those below `services.herald`.

  ## The subscriber

  ${part "subscriber"}
  ## The broker

  ${part "broker"}''
