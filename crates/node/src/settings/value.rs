//! What values a setting takes.
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use core::fmt;
use core::net::Ipv4Addr;

/// What values a setting takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Text of so many bytes at most.
    Text(usize),
    /// A password of so many bytes; shown as `***` while the console is locked.
    Secret {
        /// Fewest bytes.
        least: usize,
        /// Most bytes.
        most: usize,
    },
    /// The broker's password, which `none` clears.
    ClearableSecret(usize),
    /// A whole number between two others.
    Number(i64, i64),
    /// 80 or 160.
    Speed,
    /// An IPv4 address.
    Address,
    /// An IPv4 address, or `dhcp`.
    AddressOrDhcp,
    /// A /24: its last number counts as 0.
    Network,
}

/// What it takes, in a few words.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(most) => write!(f, "up to {most} bytes"),
            Self::ClearableSecret(most) => write!(f, "up to {most} bytes, or none"),
            Self::Secret { least, most } => write!(f, "{least} to {most} bytes"),
            Self::Number(least, most) => write!(f, "{least} to {most}"),
            Self::Speed => f.write_str("80 or 160"),
            Self::Address => f.write_str("an IPv4 address"),
            Self::AddressOrDhcp => f.write_str("an IPv4 address, or dhcp"),
            Self::Network => f.write_str("an IPv4 address of a /24"),
        }
    }
}

/// A value that does not do, with what would.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Misfit(pub(super) Cow<'static, str>);

impl Kind {
    /// The value as it is kept and shown.
    pub(super) fn parse(self, value: &str) -> Result<Box<str>, Misfit> {
        match self {
            Self::ClearableSecret(_) if value == "none" => Ok("".into()),
            Self::Text(most) | Self::ClearableSecret(most) => lengthy(value, 0, most),
            Self::Secret { least, most } => lengthy(value, least, most),
            Self::Number(least, most) => number(value, least, most),
            Self::Speed => match value {
                "80" | "160" => Ok(value.into()),
                _ => Err(Misfit("80 or 160".into())),
            },
            Self::Address => Ok(address(value)?.to_string().into()),
            Self::AddressOrDhcp if value == "dhcp" => Ok("dhcp".into()),
            Self::AddressOrDhcp => Ok(address(value)?.to_string().into()),
            Self::Network => {
                let [a, b, c, _] = address(value)?.octets();
                Ok(Ipv4Addr::new(a, b, c, 0).to_string().into())
            }
        }
    }

    /// As [`Kind::parse`], for a value that was printed.
    pub(super) fn parse_stored(self, value: &str) -> Result<Box<str>, Misfit> {
        match self {
            // Stored values never go through the word `none`.
            Self::ClearableSecret(most) => lengthy(value, 0, most),
            other => other.parse(value),
        }
    }
}

fn lengthy(value: &str, least: usize, most: usize) -> Result<Box<str>, Misfit> {
    if (least..=most).contains(&value.len()) && !value.contains('\0') {
        return Ok(value.into());
    }
    Err(Misfit(format!("{least}-{most} bytes").into()))
}

/// Decimal digits with or without a sign: printed without what is idle (`007` is 7).
fn number(value: &str, least: i64, most: i64) -> Result<Box<str>, Misfit> {
    let parsed = value.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
    parsed.map(|number| number.to_string().into()).ok_or_else(|| Misfit(format!("{least}-{most}").into()))
}

fn address(value: &str) -> Result<Ipv4Addr, Misfit> {
    value.parse().map_err(|_| Misfit("an IPv4 address".into()))
}
