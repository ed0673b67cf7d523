//! The rules for clients of each listener, as their files say.
use crate::config::{Access, Listener};
use access::{Acl, Fault, Passwords};
use mqtt::Topic;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longer files are refused: a hundred thousand users fit.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A file that can't come into force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadError {
    path: PathBuf,
    why: Why,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Why {
    Unreadable(String),
    Wrong(Vec<Fault>),
}

impl fmt::Display for LoadError {
    /// One line for each fault: `FILE:LINE: what was found, what to write`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.why {
            Why::Unreadable(reason) => write!(f, "{path}: {reason}"),
            Why::Wrong(faults) => {
                for (index, fault) in faults.iter().enumerate() {
                    let end = if index == 0 { "" } else { "\n" };
                    write!(f, "{end}{path}:{}: {}", fault.line, fault.message)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// The rules of one listener, or of several that have the same ones.
#[derive(Clone, Debug)]
pub struct Realm {
    /// Where they come from, and those that need no file.
    pub settings: Access,
    /// Clients may come without a user name.
    pub allow_anonymous: bool,
    /// Who has which password; none: user names are not checked.
    pub passwords: Option<Arc<Passwords>>,
    /// What may be done; none: everything.
    pub acl: Option<Arc<Acl>>,
}

impl Realm {
    /// Whether it lets everybody in as they say they are.
    fn is_open(&self) -> bool {
        self.settings == Access::default() && self.allow_anonymous
    }
}

/// The rules of all listeners, by their place in the configuration.
#[derive(Clone, Debug, Default)]
pub struct Realms(pub(super) Vec<Arc<Realm>>);

impl Realms {
    /// Reads all files, each once.
    ///
    /// # Errors
    /// The first file that is not right, with all that is wrong with it.
    pub fn load(listeners: &[Listener]) -> Result<Self, LoadError> {
        let (mut passwords, mut acls) = (BTreeMap::new(), BTreeMap::new());
        let mut realms = Vec::new();
        for listener in listeners {
            let settings = &listener.access;
            realms.push(Arc::new(Realm {
                settings: settings.clone(),
                allow_anonymous: listener.allow_anonymous,
                passwords: once(settings.password_file.as_deref(), &mut passwords, Passwords::parse)?,
                acl: once(settings.acl_file.as_deref(), &mut acls, Acl::parse)?,
            }));
        }
        Ok(Self(realms))
    }

    /// Whether nobody is ever asked anything.
    pub fn are_open(&self) -> bool {
        self.0.iter().all(|realm| realm.is_open())
    }

    /// Whether there is a password to be checked.
    pub(super) fn have_passwords(&self) -> bool {
        self.0.iter().any(|realm| realm.passwords.is_some())
    }

    /// Those of a listener.
    pub(super) fn of(&self, listener: usize) -> Option<Arc<Realm>> {
        self.0.get(listener).cloned()
    }

    /// The number that the broker knows the rules of a listener by; none if all have the same.
    pub(super) fn number(&self, listener: usize) -> Option<u16> {
        let differ = self.0.windows(2).any(|two| two[0].settings.acl_file != two[1].settings.acl_file);
        u16::try_from(listener).ok().filter(|_| differ)
    }

    /// What the broker asks; nothing if everybody may do everything.
    pub fn policy(&self) -> Option<Arc<dyn node::Policy>> {
        let rules: Vec<_> = self.0.iter().map(|realm| realm.acl.clone()).collect();
        rules.iter().any(Option::is_some).then(|| Arc::new(Rules(rules)) as Arc<dyn node::Policy>)
    }
}

fn once<T>(
    path: Option<&Path>,
    known: &mut BTreeMap<PathBuf, Arc<T>>,
    parse: fn(&str) -> Result<T, Vec<Fault>>,
) -> Result<Option<Arc<T>>, LoadError> {
    let Some(path) = path else { return Ok(None) };
    if let Some(known) = known.get(path) {
        return Ok(Some(Arc::clone(known)));
    }
    let fail = |why| LoadError { path: path.to_owned(), why };
    let text = read(path).map_err(|reason| fail(Why::Unreadable(reason)))?;
    let parsed = Arc::new(parse(&text).map_err(|faults| fail(Why::Wrong(faults)))?);
    known.insert(path.to_owned(), Arc::clone(&parsed));
    Ok(Some(parsed))
}

/// Looks at a password file.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn check_passwords(path: &Path) -> Result<(), LoadError> {
    once(Some(path), &mut BTreeMap::new(), Passwords::parse).map(|_| ())
}

/// Looks at a file of access rules.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn check_rules(path: &Path) -> Result<(), LoadError> {
    once(Some(path), &mut BTreeMap::new(), Acl::parse).map(|_| ())
}

/// The text of a password or access file.
///
/// # Errors
/// Says why it can't be had, without the path.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("can't be read: {error}"))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("longer than 64 MiB: this is another kind of file".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        format!("line {line} is not UTF-8: save the file as UTF-8 text")
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// Access rules by listener, as the broker asks them.
#[derive(Debug)]
struct Rules(Vec<Option<Arc<Acl>>>);

impl Rules {
    fn allow(&self, who: node::Who<'_>, access: access::Access, topic: Topic<'_>) -> bool {
        let client = access::Who { user: who.user, client_id: who.client_id };
        let may = |acl: &Option<Arc<Acl>>| acl.as_ref().is_none_or(|acl| acl.decide(client, access, topic).allowed);
        match (who.realm, access) {
            (Some(number), _) => self.0.get(usize::from(number)).is_some_and(may),
            // Not here since the start, and the listeners differ: what waits is looked at again when the client comes,
            // a will must be right for all of them.
            (None, access::Access::Read) => self.0.iter().any(may),
            (None, access::Access::Write) => self.0.iter().all(may),
        }
    }
}

impl node::Policy for Rules {
    fn allows(&self, who: node::Who<'_>, access: node::Access<'_>) -> bool {
        match access {
            node::Access::Read(topic) => self.allow(who, access::Access::Read, topic),
            node::Access::Write(topic) => self.allow(who, access::Access::Write, topic),
            // As mosquitto: what a subscription brings is decided message by message.
            node::Access::Subscribe(_) => true,
        }
    }
}
