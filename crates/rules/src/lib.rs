//! The rules of a site: small scripts that hear messages, pins, timers and the web, and answer.
//!
//! For: whoever runs such scripts — a node, the simulator, `midge script`. Two dialects: `compat` runs the scripts of
//! the old ESP8266 broker unmodified, `midge` (first line `% midge`) is the language for new ones. Never: sockets,
//! clocks, files, devices, the broker; what a script wants done comes out as [`Output`], what it looks at is lent as
//! [`World`]. Start reading at [`door`] (what is said to an engine and what it answers), then `engine.rs`, then
//! `machine.rs`.
//!
//! ```
//! use midge_rules::{Engine, Input, Limits, Nowhere, Oddities, Output};
//!
//! let script = b"on init do println 2+3*4";
//! let mut engine = Engine::load(script, Oddities::default(), Limits::default()).expect("no errors");
//! engine.handle(mqtt::Now::default(), Input::Start, &Nowhere);
//! assert_eq!(engine.poll_output(), Some(Output::Print("14\r\n".into())));
//! ```
#![no_std]
extern crate alloc;

mod alarm;
mod builtin;
mod check;
mod clock;
mod compat;
mod diagnostic;
pub mod door;
mod engine;
mod event;
mod function;
mod index;
mod json;
mod limits;
mod machine;
mod midge;
mod number;
mod pattern;
mod place;
mod program;
mod request;
pub mod simulate;
mod state;
mod tree;
mod value;

pub use check::{Report, check, convert};
pub use clock::Clock;
pub use compat::{Oddities, Oddity};
pub use diagnostic::{Diagnostic, Severity};
pub use door::{Counters, Fault, FaultKind, Input, Level, Logging, Nowhere, Output, Reply, Request, RequestId, World};
pub use engine::{Engine, dialect_of};
pub use limits::Limits;
pub use pattern::Pattern;
pub use place::Place;
pub use simulate::{Transcript, simulate};
pub use tree::{
    AlarmRule, Deliveries, Dialect, Habits, Method, Numbers, PeerChange, PinMode, Pull, Side, TextRule, TopicRule,
};
