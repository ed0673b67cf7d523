//! One site in the world: a node while it lives, and a disk that outlives it.
use crate::disk::Disk;
use mqtt::Now;
use node::{BrokerConfig, Config, Membership, MeshConfig, Node, Overlap, SiteId};
use std::collections::BTreeSet;

/// A site.
#[derive(Debug)]
pub struct Site {
    /// Its number.
    pub index: usize,
    /// `None` while it is dead.
    pub node: Option<Node>,
    /// Its disk.
    pub disk: Disk,
    /// When it starts again, while it is dead.
    pub start_at: u64,
    /// Connections that the node does not want to be read from.
    pub paused: BTreeSet<u32>,
    /// Records that were not understood at a start.
    pub damaged: usize,
    /// Limits.
    pub broker: BrokerConfig,
}

/// The site's key: its number, so that traces can be read.
pub fn site_id(index: usize) -> SiteId {
    SiteId([index as u8 + 1; 32])
}

/// The number of a site's key.
pub fn index_of(site: SiteId) -> usize {
    usize::from(site.0[0]) - 1
}

impl Site {
    /// A site that has never run.
    pub fn new(index: usize) -> Self {
        Self {
            index,
            node: None,
            disk: Disk::default(),
            start_at: 0,
            paused: BTreeSet::new(),
            damaged: 0,
            // Checkers count copies, and some devices have overlapping filters.
            broker: BrokerConfig { overlap: Overlap::Once, ..BrokerConfig::default() },
        }
    }

    /// Reads the disk and lives.
    pub fn start(&mut self, now: Now, seed: [u8; 32]) {
        let membership = Membership {
            site: site_id(self.index),
            name: format!("site{}", self.index),
            config: MeshConfig::default(),
        };
        let config = Config { broker: self.broker.clone(), membership: Some(membership), ..Config::default() };
        let mut node = Node::new(config, seed);
        for (key, value) in self.disk.records() {
            if node.restore(key, value).is_err() {
                self.damaged += 1;
            }
        }
        node.restored(now);
        self.paused.clear();
        self.node = Some(node);
    }
}
