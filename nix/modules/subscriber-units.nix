# The units of services.herald.subscriber: the daemon, and the way back from a boot that went wrong.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.herald.subscriber;
  state = (import ./common.nix { inherit lib pkgs; }).state {
    option = "services.herald.subscriber.stateDir";
    path = cfg.stateDir;
    name = "herald";
    user = "root";
  };

  # What the daemon starts, and what the processes inherit that it starts beside itself: they run
  # nix-env, switch-to-configuration, systemctl, bootctl. systemd and the coreutils are there anyway.
  path = [
    config.nix.package
    pkgs.util-linux # wall
  ]
  ++ lib.optional (cfg.consent != null) pkgs.libnotify # notify-send
  ++ cfg.path;

  isEncrypted = _: lib.hasSuffix ".cred";
  encrypted = lib.filterAttrs isEncrypted cfg.credentials;
  plain = lib.removeAttrs cfg.credentials (lib.attrNames encrypted);
  load = lib.mapAttrsToList (name: file: "${name}:${file}");
in
{
  config = lib.mkIf cfg.enable {
    assertions = [ state.assertion ];
    systemd.tmpfiles.rules = state.rules;

    systemd.services.herald-subscriber = {
      description = "Herald's subscriber";
      documentation = [ "man:herald-subscriber(1)" ];
      # Not after network-online.target: it is ready once its state is read, and connects when it can.
      wantedBy = [ "multi-user.target" ];
      inherit path;
      environment.HERALD_LOG = cfg.logFilter;
      # It waits for the switch program, which would wait for its stop. Whoever runs that program
      # starts the new subscriber afterwards; an idle one starts itself anew.
      restartIfChanged = false;
      # It never gives up: nobody but it brings the machine out of trouble.
      startLimitIntervalSec = 0;
      unitConfig.RequiresMountsFor = [
        cfg.stateDir
        builtins.storeDir
      ];

      serviceConfig = {
        Type = "notify";
        ExecStart = "${cfg.package}/bin/herald-subscriber run --config ${cfg.configurationFile}";
        Restart = "always";
        RestartSec = "1s";
        RestartSteps = 6;
        RestartMaxDelaySec = "1min";
        # What is under way runs in units of its own, and is not touched by this one's end.
        KillMode = "mixed";
        TimeoutStopSec = "15s";
        WatchdogSec = "3min";
        # Nix, which fetches, can need much memory; that must end Nix, and not its parent.
        OOMPolicy = "continue";
        LoadCredential = load plain;
        LoadCredentialEncrypted = load encrypted;
        RuntimeDirectory = "herald";
        # Everybody may ask for the status; the daemon tells by the kernel who may do more.
        RuntimeDirectoryMode = "0755";
        UMask = "0022";

        # Hardening is against mistakes and against what comes in over the network: who has this
        # process can have systemd start anything. What changes the system (the switch program,
        # setting the profile, the boot loader, the roll back) runs in transient units outside of it.
        NoNewPrivileges = true;
        # Nix fetches in this unit, so the store and Nix's state stay writable.
        ProtectSystem = "strict";
        ReadWritePaths = [ "/nix" ] ++ state.writable;
        # Not hidden: Nix as root reads root's netrc and, for stores behind ssh, root's keys.
        ProtectHome = "read-only";
        PrivateTmp = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectControlGroups = true;
        LockPersonality = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        # The store is mounted read-only. Nix mounts it writable: in this unit's namespace, or, as some
        # versions do, in one of its own.
        RestrictNamespaces = "mnt";
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
        ];
        SystemCallArchitectures = "native";
        SystemCallErrorNumber = "EPERM";
        SystemCallFilter = [
          "~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap"
        ];
        # CAP_SYS_ADMIN is for that mount, and for systemd to take orders from here; the others that
        # stay are for files of other owners, and for checks that run as another user.
        CapabilityBoundingSet = "~${
          toString [
            "CAP_AUDIT_CONTROL"
            "CAP_AUDIT_READ"
            "CAP_BLOCK_SUSPEND"
            "CAP_BPF"
            "CAP_CHECKPOINT_RESTORE"
            "CAP_IPC_LOCK"
            "CAP_IPC_OWNER"
            "CAP_LEASE"
            "CAP_LINUX_IMMUTABLE"
            "CAP_MAC_ADMIN"
            "CAP_MAC_OVERRIDE"
            "CAP_MKNOD"
            "CAP_NET_BIND_SERVICE"
            "CAP_NET_BROADCAST"
            "CAP_PERFMON"
            "CAP_SYSLOG"
            "CAP_SYS_MODULE"
            "CAP_SYS_PACCT"
            "CAP_SYS_PTRACE"
            "CAP_SYS_RAWIO"
            "CAP_SYS_TIME"
            "CAP_SYS_TTY_CONFIG"
            "CAP_WAKE_ALARM"
          ]
        }";
        # Not set, and why:
        #   PrivateDevices, ProtectClock, DevicePolicy: `wall` asks people on their terminals.
        #   PrivateNetwork, IPAddressDeny: it is there to talk to a broker and to caches.
        #   PrivateUsers, User: it is root, as switching a system is.
        #   MemoryDenyWriteExecute, ProtectProc, ProcSubset: a check's command may be a program
        #     that compiles as it runs, or look for other processes.
      }
      // state.serviceConfig;
    };

    # Goes back from a system that was booted for the first time and whose own subscriber does not
    # work. It runs the program of the subscriber that armed it, to which `dead-man` is a link, and
    # needs nothing of the system that is on trial.
    systemd.services.herald-deadman = {
      description = "Herald's way back from this boot";
      documentation = [ "man:herald-subscriber(1)" ];
      wantedBy = [ "sysinit.target" ];
      inherit path;
      restartIfChanged = false;
      unitConfig = {
        # Nor does it go when somebody isolates emergency.target.
        DefaultDependencies = false;
        IgnoreOnIsolate = true;
        X-StopOnRemoval = false;
        RequiresMountsFor = [
          cfg.stateDir
          builtins.storeDir
        ];
        ConditionPathExists = "${cfg.stateDir}/system/dead-man";
        ConditionPathExistsGlob = [
          "|${cfg.stateDir}/*/armed-*"
          "|${cfg.stateDir}/*/rollback-*"
        ];
      };
      serviceConfig = {
        Type = "exec";
        ExecStart = "${cfg.stateDir}/system/dead-man dead-man --state-dir ${cfg.stateDir}";
        Restart = "on-failure";
        RestartSec = "1s";
        OOMScoreAdjust = -1000;
      };
      # No sandbox: it runs the old system's switch program, and restarts the machine.
    };
  };
}
