# What is wrong with a trust file, said while the system is evaluated. `check-config` would refuse
# the same later, as every reader of the file does.
{ lib }:

let
  # "NAME:BASE64": a key is the same under whatever name.
  material = key: lib.last (lib.splitString ":" key);

  role =
    name: table:
    let
      count = lib.length table.keys;
    in
    [
      {
        assertion = count > 0;
        message = ''
          services.herald.subscriber.trust.${name}.keys is empty: nobody could give this host orders,
          or pace them. Put in what `herald key generate` prints, or lib.importTOML a trust file.
        '';
      }
      {
        assertion = table.threshold > 0;
        message = ''
          services.herald.subscriber.trust.${name}.threshold is 0: nobody's signature would be
          asked for. Set it to 1 or more.
        '';
      }
      {
        assertion = count == 0 || table.threshold <= count;
        message = ''
          services.herald.subscriber.trust.${name}.threshold is ${toString table.threshold}, but
          there are only ${toString count} keys: nothing could ever be signed by enough of them.
        '';
      }
    ];

  repeated =
    keys:
    let
      byMaterial = lib.groupBy material keys;
    in
    lib.filter (same: lib.length same > 1) (lib.attrValues byMaterial);
in
{
  # trust -> assertions
  assertions =
    trust:
    let
      rollout = if trust.rollout == null then [ ] else trust.rollout.keys;
      twice = repeated (trust.release.keys ++ rollout);
    in
    role "release" trust.release
    ++ lib.optionals (trust.rollout != null) (role "rollout" trust.rollout)
    ++ [
      {
        assertion = twice == [ ];
        message = ''
          services.herald.subscriber.trust has the same key more than once, under whatever name and
          in whatever role: ${lib.concatMapStringsSep "; " (lib.concatStringsSep ", ") twice}.
        '';
      }
      {
        assertion = trust.freshness == null || trust.rollout != null;
        message = ''
          services.herald.subscriber.trust.freshness is set, but nobody could sign beacons: set
          trust.rollout.
        '';
      }
    ];
}
