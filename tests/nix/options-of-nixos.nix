# The options of NixOS that the modules set or read, and those that the examples give to something that
# the modules read, too: with the types, the defaults and the assertions of NixOS.
{ lib, pkgs }:
{ config, ... }:

let
  inherit (lib) mkDefault mkIf types;
  inherit (import ./service.nix { inherit lib pkgs; }) service setting;

  option = type: default: lib.mkOption { inherit type default; };
  text = option types.str;
  texts = option (types.listOf types.str) [ ];
  textOrNull = option (types.nullOr types.str) null;
  packages = option (types.listOf types.package) [ ];

  # A table of what NixOS knows more of than is here.
  settings =
    value:
    option (types.submodule {
      freeformType = types.attrsOf value;
    }) { };

  nixSetting = types.nullOr (
    types.oneOf [
      types.bool
      types.int
      types.float
      types.str
      types.path
      types.package
    ]
  );

  file =
    {
      config,
      name,
      options,
      ...
    }:
    {
      options = {
        enable = option types.bool true;
        target = text name;
        text = option (types.nullOr types.lines) null;
        source = lib.mkOption { type = types.path; };
        mode = text "symlink";
        user = text "+0";
        group = text "+0";
      };
      config.source = mkIf (config.text != null) (
        lib.mkDerivedConfig options.text (pkgs.writeText "etc-${baseNameOf name}")
      );
    };

  challenges = [
    "dnsProvider"
    "webroot"
    "listenHTTP"
    "s3Bucket"
  ];
  certificate =
    { name, ... }:
    {
      options = lib.genAttrs challenges (_: textOrNull) // {
        directory = lib.mkOption {
          type = types.str;
          readOnly = true;
          default = "/var/lib/acme/${name}";
        };
        domain = text name;
        group = text "acme";
        reloadServices = texts;
      };
    };

  user.options = {
    isNormalUser = option types.bool false;
    isSystemUser = option types.bool false;
    group = text "";
    extraGroups = texts;
    openssh.authorizedKeys.keys = texts;
  };
in
{
  options = {
    assertions = option (types.listOf types.unspecified) [ ];
    warnings = texts;
    boot.isContainer = option types.bool false;
    boot.loader = {
      efi.efiSysMountPoint = text "/boot";
      # NixOS has GRUB where nobody says otherwise.
      grub.enable = option types.bool (!config.boot.isContainer);
      systemd-boot.enable = option types.bool false;
      systemd-boot.xbootldrMountPoint = textOrNull;
    };
    environment.etc = option (types.attrsOf (types.submodule file)) { };
    environment.systemPackages = packages;
    networking.hostName = option (types.strMatching "^$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$") "nixos";
    networking.firewall.allowedTCPPorts = lib.mkOption {
      type = types.listOf types.port;
      default = [ ];
      apply = ports: lib.unique (lib.sort lib.lessThan ports);
    };
    nix.package = option types.package pkgs.nix;
    nix.settings = settings (types.either nixSetting (types.listOf nixSetting));
    security.acme = {
      acceptTerms = option types.bool false;
      defaults.email = textOrNull;
      certs = option (types.attrsOf (types.submodule certificate)) { };
    };
    system.stateVersion = text "25.11";
    system.checks = packages;
    system.systemBuilderCommands = option types.lines "";
    systemd.package = option types.package pkgs.systemd;
    systemd.services = option (types.attrsOf (types.submodule service)) { };
    systemd.settings.Manager = settings setting;
    systemd.tmpfiles.rules = texts;
    users.users = option (types.attrsOf (types.submodule user)) { };
    users.groups = option (types.attrsOf (types.submodule { options.members = texts; })) { };
  };

  config = {
    boot.loader.grub.enable = mkIf config.boot.loader.systemd-boot.enable (mkDefault false);

    # A certificate has a unit that makes sure that there is one, signed by itself at first, and another
    # that orders and renews it.
    systemd.services = lib.mkMerge (
      map (name: {
        "acme-${name}" = { };
        "acme-order-renew-${name}" = { };
      }) (lib.attrNames config.security.acme.certs)
    );

    users.users = {
      root = {
        isSystemUser = true;
        group = "root";
      };
      acme = mkIf (config.security.acme.certs != { }) {
        isSystemUser = true;
        group = "acme";
      };
    };

    assertions =
      lib.mapAttrsToList (name: user: {
        assertion = user.isNormalUser != user.isSystemUser && (user.isNormalUser || user.group != "");
        message = "users.users.${name} is neither a system's user with a group nor a person.";
      }) config.users.users
      ++ lib.optional (config.security.acme.certs != { }) {
        assertion = config.security.acme.acceptTerms;
        message = "security.acme.acceptTerms is not set.";
      }
      ++ lib.mapAttrsToList (name: certificate: {
        assertion = lib.count (challenge: certificate.${challenge} != null) challenges == 1;
        message = "security.acme.certs.${name} needs one of ${toString challenges}.";
      }) config.security.acme.certs
      # Not NixOS, which has more units than are here.
      ++ lib.concatLists (
        lib.mapAttrsToList (
          name: service:
          map (other: {
            assertion =
              !lib.hasSuffix ".service" other || config.systemd.services ? ${lib.removeSuffix ".service" other};
            message = "${name}.service names ${other}, which is not there.";
          }) (service.after ++ service.wants ++ service.requires)
        ) config.systemd.services
      );
  };
}
