//! The language for new scripts.
mod lex;
mod needs;
mod parse;
mod print;

pub(crate) use parse::{TIMERS, parse};
pub(crate) use print::print;

/// Words that begin or end something and are never names.
const KEYWORDS: [&str; 49] = [
    "on",
    "config",
    "option",
    "do",
    "then",
    "else",
    "elseif",
    "endif",
    "done",
    "if",
    "while",
    "print",
    "println",
    "serial_out",
    "system",
    "publish",
    "subscribe",
    "unsubscribe",
    "settimer",
    "setalarm",
    "setvar",
    "http_get",
    "http_post",
    "http_put",
    "http_delete",
    "header",
    "gpio_pinmode",
    "gpio_out",
    "gpio_pwm",
    "fail",
    "stop",
    "local",
    "remote",
    "retained",
    "qos",
    "and",
    "or",
    "not",
    "div",
    "mod",
    "str_gt",
    "str_gte",
    "init",
    "timer",
    "alarm",
    "topic",
    "peer",
    "serial",
    "http_response",
];
