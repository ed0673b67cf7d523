//! An application message that outlives the bytes it came in: shared, immutable, one block of memory.
use crate::property::PublishProperties;
use crate::time::Wall;
use crate::topic::Topic;
use crate::types::QoS;
use alloc::boxed::Box;
use alloc::sync::Arc;

/// A message as queued, retained and sent between sites. Cloning shares it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message(Arc<Inner>);

#[derive(PartialEq, Eq, Debug)]
struct Inner {
    qos: QoS,
    retain: bool,
    topic_len: u16,
    properties_len: u32,
    expires: Wall,
    /// Topic, then forwardable properties in wire form, then payload.
    bytes: Box<[u8]>,
}
