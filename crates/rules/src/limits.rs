//! What a script may use, by name. Exceeding one is a [`crate::Fault`] with a place and a counter; the rest goes on.
use core::time::Duration;

/// Budgets of one engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of the script's text.
    pub script_bytes: usize,
    /// How deep brackets, `if` and `while` may be nested.
    pub depth: u16,
    /// Steps of one clause for one event; a step is one operation, or 32 bytes of text worked on.
    pub steps_per_clause: u32,
    /// Steps after which [`crate::Engine::handle`] returns between two clauses; the rest follows at the next call.
    pub steps_per_turn: u32,
    /// Bytes of variables, waiting events, unread outputs and values being computed, together.
    pub memory_bytes: usize,
    /// Bytes of one text.
    pub string_bytes: usize,
    /// Events waiting.
    pub events: usize,
    /// Outputs waiting to be polled.
    pub outputs: usize,
    /// How many own messages may follow from one another before the chain is cut.
    pub chain: u16,
    /// HTTP requests without an answer.
    pub http_in_flight: usize,
    /// Bytes of an HTTP answer's body; a longer one counts as failed.
    pub http_body_bytes: usize,
    /// How long an HTTP answer may take.
    pub http_timeout: Duration,
    /// Local subscriptions.
    pub subscriptions: usize,
    /// Variables of one script.
    pub variables: usize,
    /// `gpio_interrupt` clauses.
    pub interrupts: usize,
    /// Pins with PWM.
    pub pwm_pins: usize,
    /// Bytes of a flash variable; the rest is cut.
    pub flash_bytes: usize,
    /// A flash variable is written at most this often; its latest value is what gets written.
    pub flash_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            script_bytes: 64 * 1024,
            depth: 100,
            steps_per_clause: 50_000,
            steps_per_turn: 100_000,
            memory_bytes: 1024 * 1024,
            string_bytes: 64 * 1024,
            events: 1024,
            outputs: 4096,
            chain: 64,
            http_in_flight: 8,
            http_body_bytes: 64 * 1024,
            http_timeout: Duration::from_secs(30),
            subscriptions: 256,
            variables: 256,
            interrupts: 64,
            pwm_pins: 32,
            flash_bytes: 1024,
            flash_interval: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// Those of the old firmware, where scripts can notice them.
    pub fn original() -> Self {
        Self {
            script_bytes: 4091,
            http_body_bytes: 5000,
            variables: 10,
            interrupts: 3,
            pwm_pins: 8,
            flash_bytes: 63,
            flash_interval: Duration::ZERO,
            ..Self::default()
        }
    }
}
