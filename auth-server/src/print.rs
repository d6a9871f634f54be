//! `gatepost print`: snippets for the software in front, which the tests run as they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use auth_stack::Config;

use crate::cli::PrintVerb;

/// Makes the snippet.
pub(crate) fn snippet(what: PrintVerb, config: &Config) -> String {
    match what {
        PrintVerb::Nginx => nginx(&reached(config.server.listen).to_string()),
    }
}

/// Where a server that listens everywhere is reached from the same machine.
fn reached(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, listen.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, listen.port()).into(),
        _ => listen,
    }
}

fn nginx(listen: &str) -> String {
    format!(
        r#"# In the server block of what is to be protected:
location / {{
    auth_request     /.gatepost;
    # All five are set, empty ones too: a client's own headers of these names never get through.
    auth_request_set $gatepost_user   $upstream_http_remote_user;
    auth_request_set $gatepost_groups $upstream_http_remote_groups;
    auth_request_set $gatepost_realm  $upstream_http_remote_realm;
    auth_request_set $gatepost_name   $upstream_http_remote_name;
    auth_request_set $gatepost_email  $upstream_http_remote_email;
    proxy_set_header Remote-User      $gatepost_user;
    proxy_set_header Remote-Groups    $gatepost_groups;
    proxy_set_header Remote-Realm     $gatepost_realm;
    proxy_set_header Remote-Name      $gatepost_name;
    proxy_set_header Remote-Email     $gatepost_email;
    # proxy_pass http://127.0.0.1:8080;
}}
location = /.gatepost {{
    internal;
    # Only members of a group: /auth/nginx?group=staff
    proxy_pass              http://{listen}/auth/nginx;
    proxy_pass_request_body off;
    proxy_set_header        Content-Length "";
    # The host may choose the realm: it is what nginx was asked for, whatever the client claims.
    proxy_set_header        Host $host;
    proxy_set_header        X-Forwarded-Host $host;
    # Guesses count for whoever makes them, where server.trusted_proxies names this nginx.
    proxy_set_header        X-Forwarded-For $remote_addr;
    proxy_connect_timeout   2s;
    proxy_read_timeout      12s;
}}"#
    )
}
