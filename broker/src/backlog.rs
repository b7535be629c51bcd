//! What subscriptions have to catch up with: retained messages that are not sent yet.

use herald_proto::topic::Filter;

use crate::{
    message::Revision,
    retained::{self, Matching},
    subscription::Serial,
};

/// What of a subscription is retained and still to be sent.
pub(crate) struct Wanted {
    pub(crate) filter: Filter,
    pub(crate) serial: Serial,
    /// Newer than this,
    pub(crate) than: Revision,
    /// and not newer than this, which comes live.
    pub(crate) up_to: Revision,
}

/// Collects what filters have to catch up with, oldest first.
pub(crate) fn collect(
    store: &retained::Store,
    wanted: &[Wanted],
) -> Result<Vec<(Revision, Serial)>, retained::ReadError> {
    let mut backlog = Vec::new();
    for Wanted { filter, serial, than, up_to } in wanted {
        let text = filter.to_string();
        let matching = match text.find('+') {
            None => Matching::Topic(&text),
            Some(wildcard) => Matching::Prefix(&text[..wildcard]),
        };
        let newer = store.newer(matching, *than)?;
        let newer = newer.into_iter().take_while(|revision| revision <= up_to);
        backlog.extend(newer.map(|revision| (revision, *serial)));
    }
    backlog.sort_unstable();
    Ok(backlog)
}
