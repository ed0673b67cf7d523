//! Who may come in, and as whom: one set of words, for the whole site or for one listener.
use std::path::PathBuf;

/// The rules for clients of one listener.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Access {
    /// User names and hashed passwords, as `midge passwd` and `mosquitto_passwd` write them. Without it a user name is
    /// taken as it is said.
    pub password_file: Option<PathBuf>,
    /// Who may read and write what, in mosquitto's format. Without it everybody may do everything.
    pub acl_file: Option<PathBuf>,
    /// What client identifiers must begin with.
    pub client_id_prefix: Option<String>,
    /// The user name is the client identifier too; who says none is refused.
    pub client_id_from_user: bool,
    /// What identifiers begin with that clients without one are given.
    pub assigned_id_prefix: String,
    /// Clients may leave the choice of an identifier to midge.
    pub allow_empty_client_id: bool,
}

/// What [`Access::assigned_id_prefix`] is unless it is said.
pub(crate) const ASSIGNED_ID_PREFIX: &str = "auto-";

impl Default for Access {
    fn default() -> Self {
        Self {
            password_file: None,
            acl_file: None,
            client_id_prefix: None,
            client_id_from_user: false,
            assigned_id_prefix: ASSIGNED_ID_PREFIX.to_owned(),
            allow_empty_client_id: true,
        }
    }
}

/// What was said of [`Access`], in one place of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct AccessWords {
    pub(super) password_file: Option<PathBuf>,
    pub(super) acl_file: Option<PathBuf>,
    pub(super) client_id_prefix: Option<String>,
    pub(super) client_id_from_user: Option<bool>,
    pub(super) assigned_id_prefix: Option<String>,
    pub(super) allow_empty_client_id: Option<bool>,
}

impl AccessWords {
    /// What holds where both are said: this one before `base`.
    pub(super) fn over(&self, base: &Self) -> Access {
        let default = Access::default();
        Access {
            password_file: self.password_file.clone().or_else(|| base.password_file.clone()),
            acl_file: self.acl_file.clone().or_else(|| base.acl_file.clone()),
            client_id_prefix: self.client_id_prefix.clone().or_else(|| base.client_id_prefix.clone()),
            client_id_from_user: self.client_id_from_user.or(base.client_id_from_user).unwrap_or_default(),
            assigned_id_prefix: self
                .assigned_id_prefix
                .clone()
                .or_else(|| base.assigned_id_prefix.clone())
                .unwrap_or(default.assigned_id_prefix),
            allow_empty_client_id: self
                .allow_empty_client_id
                .or(base.allow_empty_client_id)
                .unwrap_or(default.allow_empty_client_id),
        }
    }
}
