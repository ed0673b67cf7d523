//! `midge passwd`: password files, with the flags of `mosquitto_passwd`.
use crate::failure::Failure;
use clap::ValueEnum;
use host::access::scram;
use host::access::{Scheme, check_user_name, hash_plain, password_line, read_text, replace_user, write_private};
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What OWASP asks of PBKDF2 with SHA-512.
const ITERATIONS: u32 = 210_000;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Take the password from the command line, where others of this machine can see it.
    #[arg(short, conflicts_with_all = ["delete", "update"], requires = "password")]
    pub(crate) batch: bool,
    /// Make a new file, in the place of what is there.
    #[arg(short, conflicts_with_all = ["delete", "update"])]
    pub(crate) create: bool,
    /// Delete the user.
    #[arg(short = 'D', conflicts_with = "update")]
    pub(crate) delete: bool,
    /// Hash all passwords that stand in the file as they are; hashes stay.
    #[arg(short = 'U', conflicts_with = "user")]
    pub(crate) update: bool,
    /// How passwords are kept; mosquitto 2 reads sha512-pbkdf2, mosquitto 1 only sha512.
    #[arg(short = 'H', value_enum, default_value_t = Hash::Argon2id, value_name = "HASH")]
    pub(crate) hash: Hash,
    /// Iterations of sha512-pbkdf2 [default: 210000] or scram-sha-256 [default: 10000].
    #[arg(short = 'I', value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) iterations: Option<u32>,
    /// Short for -H scram-sha-256.
    #[arg(long, conflicts_with = "hash")]
    pub(crate) scram: bool,
    /// The password file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The user.
    #[arg(value_name = "USER", required_unless_present = "update")]
    pub(crate) user: Option<String>,
    /// The password, with -b.
    #[arg(value_name = "PASSWORD", requires = "batch")]
    pub(crate) password: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hash {
    /// `$argon2id$`: dear to guess; midge reads it.
    Argon2id,
    /// `$7$`: mosquitto 2 and midge read it.
    Sha512Pbkdf2,
    /// `$6$`: cheap to guess; for mosquitto before 2.0.
    Sha512,
    /// `$scram-sha-256$`: for clients that prove their password without saying it; midge reads it.
    #[value(name = "scram-sha-256")]
    ScramSha256,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let hash = if args.scram { Hash::ScramSha256 } else { args.hash };
    let scheme = match hash {
        Hash::Argon2id => Scheme::Argon2id,
        Hash::Sha512Pbkdf2 => Scheme::Sha512Pbkdf2(args.iterations.unwrap_or(ITERATIONS)),
        Hash::Sha512 => Scheme::Sha512,
        Hash::ScramSha256 => match args.iterations.unwrap_or(scram::ITERATIONS) {
            few if few < scram::ITERATIONS_MIN => {
                return Err(Failure::new(format!("-I {few}: SCRAM wants at least {}", scram::ITERATIONS_MIN)));
            }
            iterations => Scheme::ScramSha256(iterations),
        },
    };
    let Some(user) = &args.user else { return update(&args.file, scheme) };
    check_user_name(user).map_err(Failure::new)?;
    let before = if args.create { String::new() } else { read_text(&args.file).map_err(missing)? };
    if args.delete {
        let (after, found) = replace_user(&before, user, None);
        if !found {
            return Err(Failure::new(format!("{}: no user {user:?}", args.file.display())));
        }
        return write(&args.file, &after);
    }
    let password = match &args.password {
        Some(password) => password.clone(),
        None => ask()?,
    };
    let line = password_line(user, password.as_bytes(), scheme).map_err(Failure::new)?;
    write(&args.file, &replace_user(&before, user, Some(&line)).0)
}

fn missing(reason: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{reason}; -c makes a new file"))
}

fn update(file: &Path, scheme: Scheme) -> Result<ExitCode, Failure> {
    let (after, count) = hash_plain(&read_text(file).map_err(Failure::new)?, scheme)
        .map_err(|reason| Failure::new(format!("{}: {reason}", file.display())))?;
    say!("{count} passwords hashed.");
    write(file, &after)
}

fn write(file: &Path, text: &str) -> Result<ExitCode, Failure> {
    write_private(file, text).map_err(Failure::new)?;
    Ok(ExitCode::SUCCESS)
}

/// From the terminal, without showing it, twice; without a terminal one line of standard input.
fn ask() -> Result<String, Failure> {
    let prompt = |words: &str| rpassword::prompt_password(words);
    let first = match prompt("Password: ") {
        Ok(first) => first,
        Err(_) => return read_line(),
    };
    let second = prompt("Reenter password: ").map_err(Failure::new)?;
    if first.is_empty() {
        return Err(Failure::new("an empty password: write one"));
    }
    if first != second { Err(Failure::new("the two passwords differ")) } else { Ok(first) }
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(Failure::new)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() { Err(Failure::new("no password on standard input")) } else { Ok(password.to_owned()) }
}
