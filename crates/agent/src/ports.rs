//! TCP ports on the loopback address.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

/// Whether 127.0.0.1:`port` can be bound right now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A loopback port nobody listens on, chosen by the system; `wanted` if that one is free. Another
/// process may take it before it is used, so the caller must be ready to ask again.
pub fn choose(wanted: Option<u16>) -> io::Result<u16> {
    if let Some(port) = wanted.filter(|&port| port != 0 && is_free(port)) {
        return Ok(port);
    }
    let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced_by_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(!is_free(port));
        assert_ne!(choose(Some(port)).unwrap(), port);
        drop(taken);
        assert_eq!(choose(Some(port)).unwrap(), port);
    }
}
