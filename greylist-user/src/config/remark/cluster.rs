//! Files of `[cluster]` that are not there, and keys that do nothing.

use std::fs::File;
use std::path::Path;

use super::super::model::Config;

/// What may not be meant, one sentence each.
pub(super) fn remarks(config: &Config) -> Vec<String> {
    let cluster = &config.cluster;
    if !cluster.shares() {
        return Vec::new();
    }
    let mut remarks = Vec::new();
    let mut look = |key, file: &Path| {
        if let Err(error) = File::open(file) {
            let file = file.display();
            remarks.push(format!(
                "[cluster] {key} {file} cannot be read: {error}; until it can, this host decides alone"
            ));
        }
    };
    if let Some(file) = &cluster.password_file {
        look("password_file", file);
    }
    if let Some(file) = cluster.tls_ca_file.as_deref().filter(|_| cluster.tls) {
        look("tls_ca_file", file);
    }
    if cluster.tls_ca_file.is_some() && !cluster.tls {
        let what = "[cluster] tls_ca_file is not looked at while tls is off: what is shared, and the password, \
                    goes in clear";
        remarks.push(what.to_owned());
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remarks_on(text: &str) -> Vec<String> {
        let text = format!("[cluster]\nservers = [\"192.0.2.1\"]\n{text}");
        let config = crate::config::parse(Path::new("f"), text.as_bytes()).expect("legal");
        remarks(&config)
    }

    #[test]
    fn files_that_are_not_there_and_a_certificate_without_tls_are_told() {
        assert_eq!(remarks_on(""), Vec::<String>::new());
        let all = "password_file = \"/nowhere/secret\"\ntls_ca_file = \"/nowhere/ca\"\n";
        let [file, unused] = &remarks_on(all)[..] else {
            panic!("two remarks");
        };
        assert!(file.starts_with("[cluster] password_file /nowhere/secret cannot be read"));
        assert!(unused.contains("while tls is off"));
        let with_tls = remarks_on(&format!("tls = true\n{all}"));
        assert_eq!(with_tls.len(), 2);
        assert!(with_tls[1].starts_with("[cluster] tls_ca_file /nowhere/ca cannot be read"));
    }
}
