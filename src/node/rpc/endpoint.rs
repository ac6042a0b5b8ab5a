//! Where a node listens and how it knows us. Made when a configuration is read; no connection.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// What a node takes as a proof of who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// The file that bitcoind writes anew at each of its starts.
    Cookie(PathBuf),
    /// `rpcauth`, or `rpcuser` and `rpcpassword`.
    User {
        /// The user's name.
        user: String,
        /// The password; never printed.
        password: String,
    },
}

/// One node's RPC port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    auth: Auth,
}

/// What is wrong with the URL of a node. The operator's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// It has no `http://`.
    Scheme,
    /// bitcoind speaks no TLS.
    Tls,
    /// User and password stand in the URL, where every log would show them.
    Secret,
    /// Something follows the port, such as the path of a wallet.
    Path,
    /// No host, or one that cannot be.
    Host,
    /// No port, or one that cannot be.
    Port,
}

impl Endpoint {
    /// From `http://host:port`.
    ///
    /// # Errors
    /// Anything else; see [`UrlError::remedy`].
    pub fn new(url: &str, auth: Auth) -> Result<Endpoint, UrlError> {
        let url = url.trim();
        if url.starts_with("https://") {
            return Err(UrlError::Tls);
        }
        let rest = url.strip_prefix("http://").ok_or(UrlError::Scheme)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::Secret);
        }
        if !matches!(path, "" | "/") {
            return Err(UrlError::Path);
        }
        let (host, port) = authority.rsplit_once(':').ok_or(UrlError::Port)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port)?;
        Ok(Endpoint { host: host_of(host)?, port, auth })
    }

    /// The URL again; it holds no secret.
    pub fn url(&self) -> String {
        match self.host.contains(':') {
            true => format!("http://[{}]:{}", self.host, self.port),
            false => format!("http://{}:{}", self.host, self.port),
        }
    }

    /// The host as it was written, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who we are to the node.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }
}

/// A name, an IPv4 address, or an IPv6 address in its brackets.
fn host_of(text: &str) -> Result<String, UrlError> {
    if let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address = inside.parse::<IpAddr>().map_err(|_| UrlError::Host)?;
        return if address.is_ipv6() { Ok(inside.to_owned()) } else { Err(UrlError::Host) };
    }
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match !text.is_empty() && text.chars().all(known) {
        true => Ok(text.to_owned()),
        false => Err(UrlError::Host),
    }
}

impl UrlError {
    /// What to write instead.
    pub fn remedy(&self) -> &'static str {
        match self {
            UrlError::Scheme | UrlError::Host => "write http://host:port",
            UrlError::Tls => {
                "bitcoind speaks no TLS: write http://host:port, and use a tunnel between machines"
            }
            UrlError::Secret => "write user and password, or cookie_file, as keys of their own",
            UrlError::Path => "remove what follows the port: no wallet is needed",
            UrlError::Port => "add the port; bitcoind's own are 8332 on main and 18443 on regtest",
        }
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            UrlError::Scheme => "the URL of a node begins with http://",
            UrlError::Tls => "the URL of a node cannot begin with https://",
            UrlError::Secret => "the URL of a node holds user or password",
            UrlError::Path => "the URL of a node ends with its port",
            UrlError::Host => "the URL of a node names no host",
            UrlError::Port => "the URL of a node lacks a port",
        })
    }
}

impl std::error::Error for UrlError {}

/// Without the password.
impl fmt::Debug for Auth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Auth::Cookie(path) => out.debug_tuple("Cookie").field(path).finish(),
            Auth::User { user, .. } => {
                out.debug_struct("User").field("user", user).finish_non_exhaustive()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint, UrlError> {
        Endpoint::new(url, Auth::Cookie("/x/.cookie".into()))
    }

    #[test]
    fn urls_that_are_one() {
        for (url, host, port) in [
            ("http://127.0.0.1:8332", "127.0.0.1", 8332),
            (" http://node-1.farm.lan:18443/ ", "node-1.farm.lan", 18443),
            ("http://[::1]:8332", "::1", 8332),
        ] {
            let endpoint = endpoint(url).expect(url);
            assert_eq!((endpoint.host(), endpoint.port()), (host, port));
            assert_eq!(endpoint.url(), url.trim().trim_end_matches('/'));
        }
    }

    #[test]
    fn urls_that_are_none_say_why() {
        for (url, error) in [
            ("127.0.0.1:8332", UrlError::Scheme),
            ("", UrlError::Scheme),
            ("https://127.0.0.1:8332", UrlError::Tls),
            ("http://me:secret@127.0.0.1:8332", UrlError::Secret),
            ("http://127.0.0.1:8332/wallet/w", UrlError::Path),
            ("http://127.0.0.1", UrlError::Port),
            ("http://127.0.0.1:0", UrlError::Port),
            ("http://127.0.0.1:65536", UrlError::Port),
            ("http://:8332", UrlError::Host),
            ("http://a b:8332", UrlError::Host),
            ("http://::1:8332", UrlError::Host),
            ("http://[127.0.0.1]:8332", UrlError::Host),
            ("http://[::1:8332", UrlError::Host),
        ] {
            assert_eq!(endpoint(url), Err(error), "{url}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let auth = Auth::User { user: "me".to_owned(), password: "hunter2".to_owned() };
        let endpoint = Endpoint::new("http://127.0.0.1:8332", auth).expect("a good one");
        let printed = format!("{endpoint:?}");
        assert!(printed.contains("\"me\"") && !printed.contains("hunter2"), "{printed}");
    }
}
