//! Files that a line names and a site opens.
use crate::config::report::FileKind;

/// What the file is that a directive names.
pub(super) fn kind(directive: &str) -> Option<FileKind> {
    Some(match directive {
        "password_file" => FileKind::Passwords,
        "acl_file" => FileKind::Rules,
        "certfile" => FileKind::Certificate,
        "keyfile" => FileKind::Key,
        "cafile" | "capath" => FileKind::Authorities,
        "crlfile" => FileKind::Revoked,
        _ => return None,
    })
}
