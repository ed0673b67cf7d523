//! Numbers that look like chance and come from the seed alone (SplitMix64).
use alloc::string::String;
use core::fmt::Write;

/// A generator; nothing secret depends on it.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A client identifier in mosquitto's form: `auto-` and a UUID.
    pub(crate) fn client_id(&mut self) -> String {
        let (a, b) = (self.roll(), self.roll());
        let mut id = String::from("auto-");
        // Writing to a string cannot fail.
        let _ = write!(
            id,
            "{:08X}-{:04X}-{:04X}-{:04X}-{:012X}",
            a >> 32,
            (a >> 16) & 0xFFFF,
            a & 0xFFFF,
            b >> 48,
            b & 0xFFFF_FFFF_FFFF
        );
        id
    }
}
