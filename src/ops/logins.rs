//! The files that let us in at a bitcoind: read for `run`, looked at for `check`. A cookie is read
//! again and again by whoever talks to the node, because each of its starts writes a new one.

use std::env;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::{Bitcoind, Login, Nodes, Spot};
use crate::finding::Finding;

/// Where systemd gives services their credentials, each to see its own.
const CREDENTIALS: &str = "/run/credentials";
/// No password is longer; a larger file is something else.
const PASSWORD_BYTES_MAX: u64 = 1_024;
/// The permission to read for those who are neither the owner nor of its group.
const READ_BY_OTHERS: u32 = 0o004;

/// What concerns the files named under `[node]`; `file` is the configuration itself.
pub(crate) fn findings(nodes: &Nodes, file: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, node) in nodes.nodes.iter().enumerate() {
        found.extend(of_node(index, node).map(|finding| finding.of(&node.name)));
        let written = matches!(node.login, Login::Password { .. });
        if written && file.metadata().is_ok_and(|metadata| read_by_others(&metadata)) {
            let what = "others can read this file, which holds a password; take their permission \
                        (chmod o-r), or use password_file";
            found.push(Finding::warning(spot(index, "password"), what).of(&node.name));
        }
    }
    found
}

/// The value of a key of the node at `index`: the first is `[node]`, the others are backups.
pub(crate) fn spot(index: usize, key: &'static str) -> Spot {
    match index {
        0 => Spot::of("node", key),
        backup => Spot { section: "node.backup", table: backup - 1, key, item: 0 },
    }
}

fn of_node(index: usize, node: &Bitcoind) -> Option<Finding> {
    match &node.login {
        Login::Password { .. } => None,
        Login::Cookie(path) => {
            let error = File::open(path).err()?;
            let path = path.display();
            // Without a node there is no cookie; `run` waits for both.
            let what = format!(
                "the cookie {path} cannot be read now: {error}; start the node, and let this user \
                 read the cookie (rpccookieperms=group), or correct the path"
            );
            Some(Finding::warning(spot(index, "cookie_file"), what))
        }
        Login::PasswordFile { path, .. } => {
            let spot = spot(index, "password_file");
            if let Err(what) = read_password(path) {
                let is_ours = env::var_os("CREDENTIALS_DIRECTORY").is_some();
                if path.starts_with(CREDENTIALS) && !is_ours {
                    let what = "only the service can read this file: nothing is said about it here";
                    return Some(Finding::warning(spot, what));
                }
                return Some(Finding::fault(spot, what));
            }
            let open = path.metadata().is_ok_and(|metadata| read_by_others(&metadata));
            let what = "others can read the password file; take their permission (chmod o-r)";
            open.then(|| Finding::warning(spot, what))
        }
    }
}

/// The password in a file of its own, without the line's end; or what is wrong, with the remedy.
pub(crate) fn read_password(path: &Path) -> Result<String, String> {
    let fault = |what: String, remedy: &str| {
        format!("the password file {} {what}; {remedy}", path.display())
    };
    let text = read(path).map_err(|error| {
        fault(format!("cannot be read: {error}"), "let this user read it, or correct the path")
    })?;
    let password = text.trim_end_matches(['\r', '\n']);
    match password.is_empty() || password.contains('\n') {
        true => Err(fault("is not one line".to_owned(), "write the password and nothing else")),
        false => Ok(password.to_owned()),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(PASSWORD_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn read_by_others(metadata: &Metadata) -> bool {
    metadata.mode() & READ_BY_OTHERS != 0
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use node::payout::Network;

    use super::*;
    use crate::config::Secret;

    fn with(login: Login) -> Nodes {
        let node = Bitcoind {
            name: "127.0.0.1:1".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            login,
            zmq_hashblock: None,
        };
        Nodes { network: Network::Main, nodes: vec![node] }
    }

    #[test]
    fn a_password_is_the_one_line_of_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        for (text, wanted) in
            [("hunter 2\n", Some("hunter 2")), ("x\r\n", Some("x")), ("y", Some("y"))]
        {
            fs::write(&path, text).expect("written");
            assert_eq!(read_password(&path).ok().as_deref(), wanted, "{text:?}");
        }
        for text in ["", "\n", "one\ntwo\n"] {
            fs::write(&path, text).expect("written");
            let error = read_password(&path).expect_err(text);
            assert!(error.ends_with("write the password and nothing else"), "{error}");
        }
        let missing = read_password(&folder.path().join("none")).expect_err("missing");
        assert!(missing.contains("cannot be read: ") && missing.contains("; let "), "{missing}");
    }

    #[test]
    fn files_that_cannot_let_us_in_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let config = folder.path().join("farm.toml");
        let cookie = with(Login::Cookie(path.clone()));
        let found = findings(&cookie, &config);
        assert!(!found[0].is_fault(), "the node may start later: {found:?}");
        assert_eq!(found[0].spot, Spot::of("node", "cookie_file"));
        let user = "u".to_owned();
        let file = with(Login::PasswordFile { user: user.clone(), path: path.clone() });
        assert!(findings(&file, &config)[0].is_fault());
        fs::write(&path, "p").expect("written");
        assert_eq!(findings(&cookie, &config), []);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
        assert_eq!(findings(&file, &config), []);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("ours");
        assert!(findings(&file, &config)[0].what.contains("chmod o-r"));
        let written = with(Login::Password { user, password: Secret("p".to_owned()) });
        fs::write(&config, "x").expect("written");
        fs::set_permissions(&config, Permissions::from_mode(0o640)).expect("ours");
        assert_eq!(findings(&written, &config), []);
        fs::set_permissions(&config, Permissions::from_mode(0o644)).expect("ours");
        assert!(findings(&written, &config)[0].what.contains("password_file"));
    }
}
