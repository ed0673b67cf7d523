//! The functions of the language by name.
use core::ops::RangeInclusive;

/// A function of the language.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Function {
    RetainedTopic,
    EatWhite,
    Binary,
    ByteVal,
    Substr,
    CsvStr,
    JsonParse,
    GpioIn,
    Len,
    Upper,
    Lower,
    Trim,
    Find,
    Replace,
    Starts,
    Ends,
    Pad,
    Number,
    IsNumber,
    Floor,
    Round,
    Abs,
    Min,
    Max,
    Hex,
    Unhex,
    JsonText,
    UrlText,
    Matches,
    Level,
    Setting,
}

/// Name and how many arguments it takes.
pub(crate) struct Row {
    pub(crate) function: Function,
    pub(crate) name: &'static str,
    pub(crate) arguments: RangeInclusive<usize>,
}

const fn row(function: Function, name: &'static str, arguments: RangeInclusive<usize>) -> Row {
    Row { function, name, arguments }
}

pub(crate) const FUNCTIONS: [Row; 31] = [
    row(Function::RetainedTopic, "retained_topic", 1..=1),
    row(Function::EatWhite, "eatwhite", 1..=1),
    row(Function::Binary, "binary", 1..=1),
    row(Function::ByteVal, "byte_val", 2..=2),
    row(Function::Substr, "substr", 2..=3),
    row(Function::CsvStr, "csvstr", 3..=3),
    row(Function::JsonParse, "json_parse", 2..=2),
    row(Function::GpioIn, "gpio_in", 1..=1),
    row(Function::Len, "len", 1..=1),
    row(Function::Upper, "upper", 1..=1),
    row(Function::Lower, "lower", 1..=1),
    row(Function::Trim, "trim", 1..=1),
    row(Function::Find, "find", 2..=2),
    row(Function::Replace, "replace", 3..=3),
    row(Function::Starts, "starts", 2..=2),
    row(Function::Ends, "ends", 2..=2),
    row(Function::Pad, "pad", 2..=3),
    row(Function::Number, "number", 1..=2),
    row(Function::IsNumber, "is_number", 1..=1),
    row(Function::Floor, "floor", 1..=1),
    row(Function::Round, "round", 1..=2),
    row(Function::Abs, "abs", 1..=1),
    row(Function::Min, "min", 1..=8),
    row(Function::Max, "max", 1..=8),
    row(Function::Hex, "hex", 1..=1),
    row(Function::Unhex, "unhex", 1..=1),
    row(Function::JsonText, "json_text", 1..=1),
    row(Function::UrlText, "url_text", 1..=1),
    row(Function::Matches, "matches", 2..=2),
    row(Function::Level, "level", 2..=2),
    row(Function::Setting, "setting", 1..=1),
];

impl Function {
    pub(crate) fn named(name: &str) -> Option<&'static Row> {
        FUNCTIONS.iter().find(|row| row.name == name)
    }

    pub(crate) fn name(self) -> &'static str {
        FUNCTIONS.iter().find(|row| row.function == self).map_or("", |row| row.name)
    }
}
