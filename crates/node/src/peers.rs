//! Which participant of the broker stands for which site.
use crate::SiteId;
use alloc::collections::BTreeMap;
use broker::AttachId;

/// Participants below this number are the site's own.
const FIRST_PEER: u32 = 1_000;

/// Both directions of the mapping.
#[derive(Debug)]
pub(crate) struct Peers {
    by_site: BTreeMap<SiteId, AttachId>,
    by_id: BTreeMap<AttachId, SiteId>,
    next: u32,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self { by_site: BTreeMap::new(), by_id: BTreeMap::new(), next: FIRST_PEER }
    }

    pub(crate) fn id(&self, site: SiteId) -> Option<AttachId> {
        self.by_site.get(&site).copied()
    }

    pub(crate) fn site(&self, id: AttachId) -> Option<SiteId> {
        self.by_id.get(&id).copied()
    }

    /// The number for a site, and whether it is new.
    pub(crate) fn admit(&mut self, site: SiteId) -> (AttachId, bool) {
        if let Some(id) = self.id(site) {
            return (id, false);
        }
        let id = AttachId(self.next);
        self.next += 1;
        self.by_site.insert(site, id);
        self.by_id.insert(id, site);
        (id, true)
    }

    pub(crate) fn remove(&mut self, site: SiteId) -> Option<AttachId> {
        let id = self.by_site.remove(&site)?;
        self.by_id.remove(&id);
        Some(id)
    }
}
