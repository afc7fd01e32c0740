//! `bowline pki`: a certificate authority for development, and certificates that it issues.

mod files;
mod spiffe;

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SigningKey,
};

use self::files::NewFiles;
use self::spiffe::SpiffeId;
use crate::causes::with_causes;
use crate::failure::Failure;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Validity begins this much earlier, since clocks differ.
const SKEW: Duration = Duration::from_secs(3600);
const CA_DAYS: u32 = 3650;
const LEAF_DAYS: u32 = 365;

#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make a certificate authority, a server certificate and a client certificate
    #[command(after_help = "\
Writes ca.pem, ca.key, server.pem, server.key (for localhost, 127.0.0.1 and ::1), client.pem and
client.key; keys are ECDSA P-256, in files that only you can read. Nothing is overwritten.

For development: ca.key lies there unprotected, and nothing can be revoked.

Example: bowline pki init pki")]
    Init {
        /// Where to; it is made if it does not exist
        dir: PathBuf,
    },
    /// Issue one more certificate
    #[command(after_help = "\
Writes NAME.pem and NAME.key. Without --dns it is a client certificate, with --dns a server
certificate, with --dns and --spiffe both in one, as X.509-SVIDs are.

Examples:
  bowline pki issue pki agent-7
  bowline pki issue pki agent-7 --spiffe spiffe://example.com/agent/7
  bowline pki issue pki api --dns api.example.com --dns 192.0.2.7 --days 30")]
    Issue(IssueOptions),
}

#[derive(Debug, Args)]
pub(crate) struct IssueOptions {
    /// The directory that `bowline pki init` wrote
    dir: PathBuf,
    /// The subject's common name, and how the files are named
    #[arg(value_parser = Name::parse)]
    name: Name,
    /// A SPIFFE ID as the certificate's URI
    #[arg(long, value_name = "ID", value_parser = SpiffeId::parse)]
    spiffe: Option<SpiffeId>,
    /// A DNS name or an IP address that the server is reached by; can be repeated
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    dns: Vec<SanType>,
    /// For how many days it is valid
    #[arg(long, value_name = "N", default_value_t = LEAF_DAYS,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(CA_DAYS)))]
    days: u32,
}

/// A file name without an extension, also used as a common name.
#[derive(Clone, Debug)]
pub(crate) struct Name(String);

impl Name {
    fn parse(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        // X.520 limits common names to 64 characters.
        let fits = (1..=64).contains(&text.len());
        if fits && text.chars().all(plain) && !text.starts_with(['.', '-']) {
            Ok(Self(text.to_owned()))
        } else {
            Err("1 to 64 letters, digits, `.`, `_` or `-`, and neither `.` nor `-` first".into())
        }
    }
}

fn server_name(text: &str) -> Result<SanType, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let wildcard = text.strip_prefix("*.");
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let valid = text.len() <= 253 && wildcard.unwrap_or(text).split('.').all(label);
    let name = Ia5String::try_from(text.to_owned()).ok();
    name.filter(|_| valid)
        .map(SanType::DnsName)
        .ok_or_else(|| "not a DNS name and not an IP address".to_owned())
}

pub(crate) fn run(command: PkiCommand) -> Result<ExitCode, Failure> {
    let report = match command {
        PkiCommand::Init { dir } => init(&dir)?,
        PkiCommand::Issue(options) => issue(&options)?,
    };
    io::stdout()
        .write_all(report.as_bytes())
        .map_err(|error| Failure::failed(format!("standard output: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn init(dir: &Path) -> Result<String, Failure> {
    let ca_key = new_key()?;
    let mut ca = params("bowline development CA", CA_DAYS);
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, ca_key).map_err(cannot_make)?;
    let names = ["localhost", "127.0.0.1", "::1"].map(server_name);
    let names = names.into_iter().collect::<Result<Vec<_>, _>>();
    let server = leaf("bowline server", names.map_err(cannot_make)?, LEAF_DAYS);
    let server = sign(server, &ca)?;
    let client = sign(leaf("bowline client", Vec::new(), LEAF_DAYS), &ca)?;

    files::make_directory(dir)?;
    let mut files = NewFiles::default();
    for name in ["ca", "server", "client"] {
        files.must_not_exist(&pem_file(dir, name))?;
        files.must_not_exist(&key_file(dir, name))?;
    }
    files.private(&key_file(dir, "ca"), &ca.key().serialize_pem())?;
    files.public(&pem_file(dir, "ca"), &ca.pem())?;
    server.write(&mut files, dir, "server")?;
    client.write(&mut files, dir, "client")?;
    files.keep();

    let word = |name: &str| word(&dir.join(name));
    let (ca, server, server_key) = (word("ca.pem"), word("server.pem"), word("server.key"));
    let (client, client_key) = (word("client.pem"), word("client.key"));
    Ok(format!(
        "Wrote to {dir}:
  ca.pem      the certificate authority: what --client-ca and --cacert name
  ca.key      its private key, for `bowline pki issue` alone
  server.pem  a certificate for localhost, 127.0.0.1 and ::1
  server.key  its private key
  client.pem  a certificate for a client
  client.key  its private key

Next, before a server on port 3000:
  bowline ingress --listen 127.0.0.1:8443 --cert {server} --key {server_key} \\
    --client-ca {ca} --upstream http://127.0.0.1:3000 --binding-only
and, with a token in the file token.jwt:
  bowline call https://localhost:8443/ --cacert {ca} \\
    --cert {client} --key {client_key} --token @token.jwt
",
        dir = dir.display()
    ))
}

fn issue(options: &IssueOptions) -> Result<String, Failure> {
    let dir = &options.dir;
    let issuer = authority(dir)?;
    let name = &options.name.0;
    let mut names = options.dns.clone();
    names.extend(options.spiffe.as_ref().map(SpiffeId::san));
    let is_server = !options.dns.is_empty();
    let is_client = !is_server || options.spiffe.is_some();
    let mut params = leaf(name, names, options.days);
    params.extended_key_usages = [
        (is_server, ExtendedKeyUsagePurpose::ServerAuth),
        (is_client, ExtendedKeyUsagePurpose::ClientAuth),
    ]
    .into_iter()
    .filter_map(|(wanted, usage)| wanted.then_some(usage))
    .collect();
    let issued = sign(params, &issuer)?;
    let mut files = NewFiles::default();
    files.must_not_exist(&pem_file(dir, name))?;
    files.must_not_exist(&key_file(dir, name))?;
    issued.write(&mut files, dir, name)?;
    files.keep();

    let (pem, key) = (pem_file(dir, name), key_file(dir, name));
    let kind = match (is_server, is_client) {
        (true, true) => "server and client",
        (true, false) => "server",
        (false, _) => "client",
    };
    let (ca, pem_word, key_word) = (word(&dir.join("ca.pem")), word(&pem), word(&key));
    let next = if is_server {
        format!(
            "bowline ingress --listen 127.0.0.1:8443 --cert {pem_word} --key {key_word} \\
    --client-ca {ca} --upstream http://127.0.0.1:3000 --binding-only"
        )
    } else {
        format!(
            "bowline call https://localhost:8443/ --cacert {ca} \\
    --cert {pem_word} --key {key_word} --token @token.jwt"
        )
    };
    Ok(format!(
        "Wrote {} (a {kind} certificate, {} days) and {} (its private key).\n\nNext:\n  {next}\n",
        pem.display(),
        options.days,
        key.display(),
    ))
}

/// The authority that `bowline pki init` wrote.
fn authority(dir: &Path) -> Result<Issuer<'static, KeyPair>, Failure> {
    let (pem, key) = (pem_file(dir, "ca"), key_file(dir, "ca"));
    // Checks that they are a pair, too.
    bowline::server::Identity::from_pem_files(&pem, &key).map_err(|error| {
        let hint = match error.kind() {
            bowline::server::TlsErrorKind::Unreadable => {
                format!("; `bowline pki init {}` makes an authority", word(dir))
            }
            _ => String::new(),
        };
        Failure::usage(format!("{}{hint}", with_causes(&error)))
    })?;
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display())))
    };
    let signing_key = KeyPair::from_pem(&read(&key)?)
        // Not the parser's text: it may quote the key.
        .map_err(|_| {
            let key = key.display();
            Failure::usage(format!(
                "{key} holds no private key (PKCS#8) that can sign here"
            ))
        })?;
    Issuer::from_ca_cert_pem(&read(&pem)?, signing_key)
        .map_err(|error| Failure::usage(format!("{}: {error}", pem.display())))
        .and_then(|issuer| match issuer.key_usages() {
            usages if usages.contains(&KeyUsagePurpose::KeyCertSign) => Ok(issuer),
            _ => Err(Failure::usage(format!(
                "{} is no certificate authority's certificate",
                pem.display()
            ))),
        })
}

/// A new certificate and its key.
struct Issued {
    pem: String,
    key: KeyPair,
}

impl Issued {
    fn write(&self, files: &mut NewFiles, dir: &Path, name: &str) -> Result<(), Failure> {
        files.private(&key_file(dir, name), &self.key.serialize_pem())?;
        files.public(&pem_file(dir, name), &self.pem)
    }
}

fn sign(
    params: CertificateParams,
    issuer: &Issuer<'_, impl SigningKey>,
) -> Result<Issued, Failure> {
    let key = new_key()?;
    let certificate = params.signed_by(&key, issuer).map_err(cannot_make)?;
    let pem = certificate.pem();
    Ok(Issued { pem, key })
}

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(cannot_make)
}

fn cannot_make(error: impl fmt::Display) -> Failure {
    Failure::failed(format!("a certificate cannot be made: {error}"))
}

/// A server certificate if there are names, else a client certificate.
fn leaf(name: &str, names: Vec<SanType>, days: u32) -> CertificateParams {
    let mut params = params(name, days);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match names.is_empty() {
        true => ExtendedKeyUsagePurpose::ClientAuth,
        false => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.subject_alt_names = names;
    params.use_authority_key_identifier_extension = true;
    params
}

fn params(name: &str, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + days * DAY).into();
    params
}

fn pem_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.pem"))
}

fn key_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.key"))
}

/// A path as one word of a shell's command line.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) && !text.is_empty() {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
