# services.herald.broker: Herald's MQTT broker on this machine.
#
# What it reads is generated from the options, and checked by its own program when the system is
# built. The options are in broker-options.nix.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.herald.broker;
  inherit (lib) mkIf optional optionalAttrs;
  common = import ./common.nix { inherit lib pkgs; };
  inherit (common) isOnMachine toml;

  unsetDropped = lib.filterAttrs (_: value: value != null);
  state = common.state {
    option = "services.herald.broker.stateDir";
    path = cfg.stateDir;
    name = "herald-broker";
    user = "herald-broker";
  };
  hasTls =
    listener:
    lib.elem listener.transport [
      "tls"
      "secure-websocket"
    ];

  certificates = lib.unique (
    lib.filter (name: name != null) (map (listener: listener.useACMEHost) cfg.listeners)
  );
  acme = name: config.security.acme.certs.${name};

  filesOf =
    listener:
    if listener.useACMEHost == null then
      { inherit (listener) certificate key; }
    else
      {
        certificate = "${(acme listener.useACMEHost).directory}/fullchain.pem";
        key = "${(acme listener.useACMEHost).directory}/key.pem";
      };

  listenerSettings =
    listener:
    unsetDropped (
      {
        inherit (listener) address transport path;
        client_ca = listener.clientCA;
        client_certificate = if hasTls listener then listener.clientCertificate else null;
      }
      // filesOf listener
      // optionalAttrs listener.anonymous { anonymous = true; }
      // optionalAttrs listener.plaintext { plaintext = true; }
    );

  portOf = listener: lib.toInt (lib.last (lib.splitString ":" listener.address));
  isLocal =
    listener:
    lib.any (prefix: lib.hasPrefix prefix listener.address) [
      "127."
      "[::1]:"
    ];
  ports = map portOf cfg.listeners;

  loginFile =
    fleet: logins:
    let
      own = removeAttrs logins [
        "trust"
        "olderTrusts"
      ];
    in
    toml.generate "${fleet}.toml" (
      {
        inherit fleet;
      }
      // lib.filterAttrs (_: value: value != { }) own
      // optionalAttrs (logins.trust != null) { trust = "${logins.trust}"; }
      // optionalAttrs (logins.olderTrusts != [ ]) {
        older_trusts = map (trust: "${trust}") logins.olderTrusts;
      }
    );
  loginFiles = lib.mapAttrs loginFile cfg.logins;
  loginsAt = fleet: "/etc/herald-broker/${fleet}.toml";

  # What is read only on the running machine has a stand-in while the system is built: keys and
  # passwords, and certificates, as these must be of their keys. The rest is the real thing.
  withStandIns =
    listener:
    listener
    // optionalAttrs (listener ? certificate) { certificate = "certificate.pem"; }
    // optionalAttrs (listener ? key) { key = "key.pem"; }
    // optionalAttrs (isOnMachine (listener.client_ca or null)) { client_ca = "certificate.pem"; };
  checked = toml.generate "checked.toml" (
    removeAttrs cfg.settings [ "passwords" ]
    // {
      state = "state";
      logins = lib.attrValues loginFiles ++ lib.filter (file: !isOnMachine file) cfg.loginFiles;
      listener = map withStandIns cfg.settings.listener;
    }
  );

  # Nothing of the logins is in it, so that they can change without a restart.
  configuration = toml.generate "broker.toml" cfg.settings;
in
{
  imports = [ ./broker-options.nix ];

  config = mkIf cfg.enable {
    assertions = [
      state.assertion
      {
        assertion = cfg.listeners != [ ];
        message = ''
          services.herald.broker.listeners is empty: nobody could connect. Add one, such as
          { address = "[::]:8883"; transport = "tls"; useACMEHost = "broker.example.org"; }.
        '';
      }
      {
        assertion =
          cfg.logins != { } || cfg.loginFiles != [ ] || lib.any (listener: listener.anonymous) cfg.listeners;
        message = ''
          services.herald.broker has neither logins nor loginFiles, nor a listener that is anonymous:
          nobody could log in.
        '';
      }
    ]
    ++ map (listener: {
      assertion =
        !hasTls listener
        || (listener.useACMEHost != null) != (listener.certificate != null && listener.key != null);
      message = ''
        services.herald.broker.listeners: ${listener.address} has the transport ${listener.transport},
        which needs either useACMEHost, or certificate and key.
      '';
    }) cfg.listeners;

    services.herald.broker.configurationFile = configuration;
    system.checks = common.checks {
      inherit (cfg) package;
      program = "herald-broker";
      file = checked;
      needs = [ pkgs.openssl ];
      before = ''
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 \
          -subj /CN=stand-in -keyout key.pem -out certificate.pem
        mkdir state
      '';
    };

    services.herald.broker.settings = unsetDropped {
      state = cfg.stateDir;
      inherit (cfg) names metrics;
      logins = map loginsAt (lib.attrNames loginFiles) ++ cfg.loginFiles;
      # A copy of systemd's, which this user alone can read.
      passwords =
        if cfg.passwordFile == null then null else "/run/credentials/herald-broker.service/passwords";
      listener = map listenerSettings cfg.listeners;
      max_connections = cfg.limits.connections;
      max_connections_per_address = cfg.limits.connectionsPerAddress;
      max_payload = cfg.limits.payload;
      max_profiles = cfg.limits.profiles;
      max_retained = cfg.limits.retained;
      max_kept_sessions = cfg.limits.keptSessions;
      max_filters = cfg.limits.filters;
    };

    environment.etc = lib.mapAttrs' (
      fleet: file: lib.nameValuePair (lib.removePrefix "/etc/" (loginsAt fleet)) { source = file; }
    ) loginFiles;
    environment.systemPackages = [ cfg.package ];

    networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall (
      map portOf (lib.filter (listener: !isLocal listener) cfg.listeners)
    );

    # It notices new certificates by itself, within a minute; this makes it at once. Before the first
    # one has come, ACME has a self-signed one here.
    security.acme.certs = lib.genAttrs certificates (_: {
      reloadServices = [ "herald-broker.service" ];
    });

    users.users.herald-broker = {
      isSystemUser = true;
      group = "herald-broker";
    };
    users.groups.herald-broker = { };

    systemd.tmpfiles.rules = state.rules;

    systemd.services.herald-broker = {
      description = "Herald's broker";
      documentation = [ "man:herald-broker(1)" ];
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ] ++ map (name: "acme-${name}.service") certificates;
      wants = map (name: "acme-${name}.service") certificates;
      # A change of logins is read while sessions go on; any other restarts it in one go, so that
      # hosts lose it for a moment and not for the whole switch.
      reloadTriggers = lib.attrValues loginFiles;
      stopIfChanged = false;
      startLimitIntervalSec = 0;
      unitConfig.RequiresMountsFor = [ cfg.stateDir ];
      environment.HERALD_LOG = cfg.logFilter;

      serviceConfig = {
        Type = "notify";
        ExecStart = "${cfg.package}/bin/herald-broker --config ${configuration}";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        Restart = "always";
        RestartSec = "1s";
        RestartSteps = 5;
        RestartMaxDelaySec = "30s";
        WatchdogSec = "30s";
        TimeoutStopSec = "30s";
        # It has a file open for each connection, and a few of its own.
        LimitNOFILE = (cfg.settings.max_connections or 12000) + 1024;
        User = "herald-broker";
        Group = "herald-broker";
        SupplementaryGroups = map (name: (acme name).group) certificates;
        LoadCredential = optional (cfg.passwordFile != null) "passwords:${cfg.passwordFile}";
        UMask = "0077";

        # Everything that systemd offers, but for the network.
        AmbientCapabilities = optional (lib.any (port: port < 1024) ports) "CAP_NET_BIND_SERVICE";
        CapabilityBoundingSet = if lib.any (port: port < 1024) ports then "CAP_NET_BIND_SERVICE" else "";
        DevicePolicy = "closed";
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        NoNewPrivileges = true;
        PrivateDevices = true;
        PrivateTmp = true;
        # In a user namespace of its own it could not bind a port below 1024.
        PrivateUsers = lib.all (port: port >= 1024) ports;
        ProcSubset = "pid";
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHome = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProtectSystem = "strict";
        ReadWritePaths = state.writable;
        RemoveIPC = true;
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_UNIX" # to tell systemd that it is ready
        ];
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        SystemCallErrorNumber = "EPERM";
        SystemCallFilter = [
          "@system-service"
          "~@privileged @resources"
          # Its soft limit of open files is raised to the hard one.
          "prlimit64 setrlimit"
        ];
      }
      // state.serviceConfig;
    };
  };
}
