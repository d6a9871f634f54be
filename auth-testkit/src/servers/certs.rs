//! Certificates of a private authority.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Certificates in a folder: those of a server, of one that names another host, of one whose time is over, of a client, and of somebody whose
/// authority is not known.
#[derive(Debug, Clone)]
pub struct Certs {
    folder: PathBuf,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertPair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certs {
    /// Makes them all in this folder, for 30 days, with the program `openssl`.
    ///
    /// # Panics
    /// If they can't be made, or the program is not there.
    #[track_caller]
    #[must_use]
    pub fn make(folder: &Path) -> Self {
        let certs = Self { folder: folder.to_owned() };
        certs.authority("ca", "Test CA");
        certs.authority("unknown-ca", "Unknown CA");
        // Both uses: nodes of a cluster are clients of each other.
        let both = "extendedKeyUsage=serverAuth,clientAuth";
        let here = format!("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n{both}");
        certs.leaf("server", "ca", "localhost", &here);
        certs.leaf("wrong-name", "ca", "wrong.example", &format!("subjectAltName=DNS:wrong.example\n{both}"));
        certs.expired_leaf("expired", "localhost", &here);
        certs.leaf("client", "ca", "client", "extendedKeyUsage=clientAuth");
        certs.leaf("stranger", "unknown-ca", "stranger", "extendedKeyUsage=clientAuth");
        certs
    }

    /// Returns the certificate of the authority that all but the stranger trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Returns the certificate of an authority that has signed none of the servers'.
    #[must_use]
    pub fn unknown_ca(&self) -> PathBuf {
        self.folder.join("unknown-ca.crt")
    }

    /// Returns what a server on this machine shows.
    #[must_use]
    pub fn server(&self) -> CertPair {
        self.pair("server")
    }

    /// Returns what a server shows that is not the one asked for.
    #[must_use]
    pub fn wrong_name(&self) -> CertPair {
        self.pair("wrong-name")
    }

    /// Returns what a server on this machine shows whose time is over.
    #[must_use]
    pub fn expired(&self) -> CertPair {
        self.pair("expired")
    }

    /// Returns what a client shows.
    #[must_use]
    pub fn client(&self) -> CertPair {
        self.pair("client")
    }

    /// Returns what a client shows whose authority the server does not know.
    #[must_use]
    pub fn stranger(&self) -> CertPair {
        self.pair("stranger")
    }

    fn pair(&self, name: &str) -> CertPair {
        CertPair {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        }
    }

    fn authority(&self, name: &str, subject: &str) {
        let CertPair { certificate, key } = self.pair(name);
        let mut command = self.new_key(subject, &key);
        command.args(["-x509", "-days", "30", "-addext", "basicConstraints=critical,CA:TRUE"]);
        command.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out"]).arg(certificate);
        run(command);
    }

    fn leaf(&self, name: &str, authority: &str, subject: &str, extensions: &str) {
        let CertPair { certificate, key } = self.pair(name);
        let file = |end: &str| self.folder.join(format!("{name}.{end}"));
        let mut command = self.new_key(subject, &key);
        command.arg("-out").arg(file("csr"));
        run(command);
        let common = "basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
        std::fs::write(file("ext"), format!("{common}{extensions}\n")).expect("a file");
        let signer = self.pair(authority);
        let mut command = self.openssl(&["x509", "-req", "-days", "30", "-CAcreateserial", "-in"]);
        command.arg(file("csr")).arg("-CA").arg(signer.certificate).arg("-CAkey").arg(signer.key);
        command.arg("-extfile").arg(file("ext")).arg("-out").arg(certificate);
        run(command);
    }

    /// As [`leaf`](Self::leaf), and good for the first day of 2020 only.
    fn expired_leaf(&self, name: &str, subject: &str, extensions: &str) {
        let CertPair { certificate, key } = self.pair(name);
        let file = |end: &str| self.folder.join(format!("{name}.{end}"));
        let mut command = self.new_key(subject, &key);
        command.arg("-out").arg(file("csr"));
        run(command);
        let write = |path: PathBuf, text: &str| std::fs::write(path, text).expect("a file");
        write(file("ext"), &format!("basicConstraints=CA:FALSE\n{extensions}\n"));
        write(file("index"), "");
        write(
            file("cnf"),
            &format!(
                "[ca]\ndefault_ca=it\n[it]\ndatabase={name}.index\nnew_certs_dir=.\nrand_serial=yes\n\
                 default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
            ),
        );
        let signer = self.pair("ca");
        let mut command = self.openssl(&["ca", "-batch", "-notext", "-config"]);
        command.arg(file("cnf")).arg("-extfile").arg(file("ext"));
        command
            .args(["-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-in"])
            .arg(file("csr"));
        command.arg("-cert").arg(signer.certificate).arg("-keyfile").arg(signer.key);
        command.arg("-out").arg(certificate);
        run(command);
    }

    fn new_key(&self, subject: &str, key: &Path) -> Command {
        let mut command = self.openssl(&["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        command.args(["-nodes", "-subj", &format!("/CN={subject}"), "-keyout"]).arg(key);
        command
    }

    fn openssl(&self, args: &[&str]) -> Command {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(&self.folder);
        command
    }
}

#[track_caller]
fn run(mut command: Command) {
    let output = command.output().expect("the program openssl, of the package openssl");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
